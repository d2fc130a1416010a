//! Short names and categories of built-in resources, and the order of groups in discovery.

/// Short names and categories of a resource.
pub(super) fn of(group: &str, plural: &str) -> (&'static [&'static str], &'static [&'static str]) {
    const ALL: &[&str] = &["all"];
    const NONE: &[&str] = &[];
    const EXTENSIONS: &[&str] = &["api-extensions"];
    match (group, plural) {
        ("", "componentstatuses") => (&["cs"], NONE),
        ("", "configmaps") => (&["cm"], NONE),
        ("", "endpoints") => (&["ep"], NONE),
        ("" | "events.k8s.io", "events") => (&["ev"], NONE),
        ("", "limitranges") => (&["limits"], NONE),
        ("", "namespaces") => (&["ns"], NONE),
        ("", "nodes") => (&["no"], NONE),
        ("", "persistentvolumeclaims") => (&["pvc"], NONE),
        ("", "persistentvolumes") => (&["pv"], NONE),
        ("", "pods") => (&["po"], ALL),
        ("", "replicationcontrollers") => (&["rc"], ALL),
        ("", "resourcequotas") => (&["quota"], NONE),
        ("", "serviceaccounts") => (&["sa"], NONE),
        ("", "services") => (&["svc"], ALL),
        ("apps", "daemonsets") => (&["ds"], ALL),
        ("apps", "deployments") => (&["deploy"], ALL),
        ("apps", "replicasets") => (&["rs"], ALL),
        ("apps", "statefulsets") => (&["sts"], ALL),
        ("autoscaling", "horizontalpodautoscalers") => (&["hpa"], ALL),
        ("batch", "cronjobs") => (&["cj"], ALL),
        ("batch", "jobs") => (NONE, ALL),
        ("certificates.k8s.io", "certificatesigningrequests") => (&["csr"], NONE),
        ("networking.k8s.io", "ingresses") => (&["ing"], NONE),
        ("networking.k8s.io", "networkpolicies") => (&["netpol"], NONE),
        ("networking.k8s.io", "ipaddresses") => (&["ip"], NONE),
        ("policy", "poddisruptionbudgets") => (&["pdb"], NONE),
        ("scheduling.k8s.io", "priorityclasses") => (&["pc"], NONE),
        ("storage.k8s.io", "storageclasses") => (&["sc"], NONE),
        ("storage.k8s.io", "volumeattributesclasses") => (&["vac"], NONE),
        ("apiextensions.k8s.io", "customresourcedefinitions") => (&["crd", "crds"], EXTENSIONS),
        ("apiregistration.k8s.io", _) | ("admissionregistration.k8s.io", _) => (NONE, EXTENSIONS),
        _ => (NONE, NONE),
    }
}

/// Where a group stands in discovery.
pub(super) fn group_rank(group: &str) -> usize {
    const ORDER: [&str; 22] = [
        "",
        "apiregistration.k8s.io",
        "apps",
        "events.k8s.io",
        "authentication.k8s.io",
        "authorization.k8s.io",
        "autoscaling",
        "batch",
        "certificates.k8s.io",
        "networking.k8s.io",
        "policy",
        "rbac.authorization.k8s.io",
        "storage.k8s.io",
        "admissionregistration.k8s.io",
        "apiextensions.k8s.io",
        "scheduling.k8s.io",
        "coordination.k8s.io",
        "node.k8s.io",
        "discovery.k8s.io",
        "resource.k8s.io",
        "flowcontrol.apiserver.k8s.io",
        "internal.apiserver.k8s.io",
    ];
    ORDER
        .iter()
        .position(|g| *g == group)
        .unwrap_or(ORDER.len())
}
