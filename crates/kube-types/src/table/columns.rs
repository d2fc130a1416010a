//! Which columns each built-in kind has.

use super::Column;

/// The columns of a kind, a word each with marks: `*` the name, `+` wide output only, `#` an integer, `?` a boolean, `@` a
/// date.
pub(super) fn of(group: &str, plural: &str) -> &'static str {
    match group {
        "" => core(plural),
        "apps" | "batch" | "autoscaling" | "policy" => workload(plural),
        "storage.k8s.io" => storage(plural),
        "networking.k8s.io" | "discovery.k8s.io" => network(plural),
        _ => other(plural),
    }
}

const PLAIN: &str = "Name*|Created At@";

fn core(plural: &str) -> &'static str {
    match plural {
        "pods" => "Name*|Ready|Status|Restarts|Age|IP+|Node+|Nominated Node+|Readiness Gates+",
        "podtemplates" => "Name*|Containers|Images|Pod Labels",
        "replicationcontrollers" => {
            "Name*|Desired#|Current#|Ready#|Age|Containers+|Images+|Selector+"
        }
        "services" => "Name*|Type|Cluster-IP|External-IP|Port(s)|Age|Selector+",
        "endpoints" => "Name*|Endpoints|Age",
        "nodes" => {
            "Name*|Status|Roles|Age|Version|Internal-IP+|External-IP+|OS-Image+|Kernel-Version+|Container-Runtime+"
        }
        "events" => {
            "Last Seen|Type|Reason|Object|Subobject+|Source+|Message|First Seen+|Count+|Name*+"
        }
        "namespaces" => "Name*|Status|Age",
        "secrets" => "Name*|Type|Data|Age",
        "serviceaccounts" => "Name*|Age",
        "configmaps" => "Name*|Data|Age",
        "persistentvolumes" => {
            "Name*|Capacity|Access Modes|Reclaim Policy|Status|Claim|StorageClass|VolumeAttributesClass|Reason|Age|VolumeMode+"
        }
        "persistentvolumeclaims" => {
            "Name*|Status|Volume|Capacity|Access Modes|StorageClass|VolumeAttributesClass|Age|VolumeMode+"
        }
        "componentstatuses" => "Name*|Status|Message|Error",
        "resourcequotas" => "Name*|Request|Limit|Age",
        _ => PLAIN,
    }
}

fn workload(plural: &str) -> &'static str {
    match plural {
        "deployments" => "Name*|Ready|Up-to-date|Available|Age|Containers+|Images+|Selector+",
        "replicasets" => "Name*|Desired#|Current#|Ready#|Age|Containers+|Images+|Selector+",
        "daemonsets" => {
            "Name*|Desired#|Current#|Ready#|Up-to-date#|Available#|Node Selector|Age|Containers+|Images+|Selector+"
        }
        "statefulsets" => "Name*|Ready|Age|Containers+|Images+",
        "controllerrevisions" => "Name*|Controller|Revision|Age",
        "jobs" => "Name*|Status|Completions|Duration|Age|Containers+|Images+|Selector+",
        "cronjobs" => {
            "Name*|Schedule|Timezone|Suspend?|Active#|Last Schedule|Age|Containers+|Images+|Selector+"
        }
        "horizontalpodautoscalers" => "Name*|Reference|Targets|MinPods|MaxPods|Replicas|Age",
        "poddisruptionbudgets" => "Name*|Min Available|Max Unavailable|Allowed Disruptions#|Age",
        _ => PLAIN,
    }
}

fn storage(plural: &str) -> &'static str {
    match plural {
        "storageclasses" => {
            "Name*|Provisioner|ReclaimPolicy|VolumeBindingMode|AllowVolumeExpansion|Age"
        }
        "volumeattributesclasses" => "Name*|DriverName|Age",
        "volumeattachments" => "Name*|Attacher|PV|Node|Attached?|Age",
        "csinodes" => "Name*|Drivers#|Age",
        "csidrivers" => {
            "Name*|AttachRequired?|PodInfoOnMount?|StorageCapacity?|TokenRequests|RequiresRepublish?|Modes|Age"
        }
        "csistoragecapacities" => "Name*|StorageClassName|Capacity",
        _ => PLAIN,
    }
}

fn network(plural: &str) -> &'static str {
    match plural {
        "ingresses" => "Name*|Class|Hosts|Address|Ports|Age",
        "ingressclasses" => "Name*|Controller|Parameters|Age",
        "networkpolicies" => "Name*|Pod-Selector|Age",
        "servicecidrs" => "Name*|CIDRs|Age",
        "ipaddresses" => "Name*|ParentRef|Age",
        "endpointslices" => "Name*|AddressType|Ports|Endpoints|Age",
        _ => PLAIN,
    }
}

fn other(plural: &str) -> &'static str {
    match plural {
        "events" => core("events"),
        "rolebindings" | "clusterrolebindings" => "Name*|Role|Age|Users+|Groups+|ServiceAccounts+",
        "certificatesigningrequests" => {
            "Name*|Age|SignerName|Requestor|RequestedDuration|Condition"
        }
        "leases" => "Name*|Holder|Age",
        "priorityclasses" => "Name*|Value#|Global-Default?|Age|PreemptionPolicy",
        "runtimeclasses" => "Name*|Handler|Age",
        "mutatingwebhookconfigurations" | "validatingwebhookconfigurations" => {
            "Name*|Webhooks#|Age"
        }
        "validatingadmissionpolicies" => "Name*|Validations#|ParamKind|Age",
        "mutatingadmissionpolicies" => "Name*|Mutations#|ParamKind|Age",
        "validatingadmissionpolicybindings" | "mutatingadmissionpolicybindings" => {
            "Name*|PolicyName|ParamRef|Age"
        }
        "flowschemas" => "Name*|PriorityLevel|MatchingPrecedence|DistinguisherMethod|Age|MissingPL",
        "prioritylevelconfigurations" => {
            "Name*|Type|NominalConcurrencyShares|Queues|HandSize|QueueLengthLimit|Age"
        }
        "deviceclasses" | "resourceclaimtemplates" => "Name*|Age",
        "resourceclaims" => "Name*|State|Age",
        "resourceslices" => "Name*|Node|Driver|Pool|Age",
        "apiservices" => "Name*|Service|Available|Age",
        _ => PLAIN,
    }
}

/// Reads columns from their short form.
pub(super) fn parse(text: &str) -> Vec<Column> {
    text.split('|')
        .map(|word| {
            let name = word.trim_end_matches(['*', '+', '#', '?', '@']);
            let has = |mark: char| word[name.len()..].contains(mark);
            let kind = match (has('#'), has('?'), has('@')) {
                (true, _, _) => "integer",
                (_, true, _) => "boolean",
                (_, _, true) => "date",
                _ => "string",
            };
            Column {
                name: name.to_owned(),
                kind: kind.to_owned(),
                format: if has('*') {
                    "name".to_owned()
                } else {
                    String::new()
                },
                priority: i64::from(has('+')),
                ..Column::default()
            }
        })
        .collect()
}

/// What a custom resource without columns of its own shows beside the name.
pub(super) fn age() -> Vec<Column> {
    vec![Column {
        name: "Age".to_owned(),
        kind: "date".to_owned(),
        json_path: ".metadata.creationTimestamp".to_owned(),
        ..Column::default()
    }]
}
