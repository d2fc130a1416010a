//! The Kubernetes API driven by the unmodified kubectl: what people do with it every day.
#![allow(clippy::unwrap_used)]

mod server_house;

use server_house::House;
use wharf_testkit::kubectl::Kubectl;

const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: nginx}]}
";

const CRONTABS: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: crontabs.stable.example.com}
spec:
  group: stable.example.com
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}, scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}}
    additionalPrinterColumns: [{name: Spec, type: string, jsonPath: .spec.cronSpec}]
    schema: {openAPIV3Schema: {type: object, properties: {
      spec: {type: object, required: [cronSpec], properties: {cronSpec: {type: string},
        image: {type: string, default: busybox}, replicas: {type: integer, minimum: 1, maximum: 10}}},
      status: {type: object, properties: {replicas: {type: integer}}}}}}
  scope: Namespaced
  names: {plural: crontabs, singular: crontab, kind: CronTab, shortNames: [ct], categories: [all]}
"#;

#[test]
fn objects_are_made_shown_changed_and_deleted() {
    let house = House::open();
    assert_eq!(
        house.run("create configmap a --from-literal=x=1"),
        "configmap/a created"
    );
    assert!(
        house
            .fails("create configmap a")
            .contains("configmaps \"a\" already exists")
    );
    assert_eq!(house.field("configmap a", ".data.x"), "1");
    assert_eq!(
        house.run("label configmap a tier=front"),
        "configmap/a labeled"
    );
    assert_eq!(
        house.run("annotate configmap a note=1"),
        "configmap/a annotated"
    );
    assert_eq!(
        house.run("get configmaps -l tier=front -o name"),
        "configmap/a"
    );
    assert_eq!(house.run("get configmaps -l tier=back -o name"), "");
    assert_eq!(
        house.run("get configmaps --field-selector metadata.name=a -o name"),
        "configmap/a"
    );
    let custom = house.run("get configmap a -o custom-columns=N:.metadata.name,X:.data.x");
    assert_eq!(
        custom.split_whitespace().collect::<Vec<_>>(),
        ["N", "X", "a", "1"]
    );
    assert!(
        house
            .run("get configmap a -o yaml")
            .contains("kind: ConfigMap")
    );
    assert!(house.run("get configmap a").contains("DATA"));
    house.run("patch configmap a --type merge -p '{\"data\":{\"y\":\"2\"}}'");
    house.run("patch configmap a --type json -p '[{\"op\":\"remove\",\"path\":\"/data/x\"}]'");
    assert_eq!(house.field("configmap a", ".data"), r#"{"y":"2"}"#);
    assert_eq!(
        house.run("delete configmap a"),
        "configmap \"a\" deleted from default namespace"
    );
    assert!(
        house
            .fails("get configmap a")
            .contains("configmaps \"a\" not found")
    );
}

#[test]
fn apply_diff_replace_and_edit_work_on_one_deployment() {
    let house = House::open();
    assert_eq!(house.apply(WEB), "deployment.apps/web created");
    assert_eq!(house.apply(WEB), "deployment.apps/web unchanged");
    assert_eq!(house.with_input("diff -f -", WEB).code, 0);
    let changed = WEB.replace("nginx", "nginx:2");
    let diff = house.with_input("diff -f -", &changed);
    assert_eq!(diff.code, 1, "{}", diff.both());
    assert!(
        diff.stdout.contains("+      - image: nginx:2"),
        "{}",
        diff.stdout
    );
    assert_eq!(house.apply(&changed), "deployment.apps/web configured");
    assert_eq!(house.field("deployment web", ".metadata.generation"), "2");
    assert_eq!(
        house.run("scale deployment web --replicas 5"),
        "deployment.apps/web scaled"
    );
    assert_eq!(house.field("deployment web", ".spec.replicas"), "5");
    house.run("set image deployment/web c=nginx:3");
    assert_eq!(
        house.field("deployment web", ".spec.template.spec.containers[0].image"),
        "nginx:3"
    );
    let whole = house
        .run("get deployment web -o json")
        .replace("nginx:3", "nginx:4");
    house.with_input("replace -f -", &whole).ok();
    assert_eq!(
        house.field("deployment web", ".spec.template.spec.containers[0].image"),
        "nginx:4"
    );
    // The same text again has an old resource version.
    let stale = house.with_input("replace -f -", &whole).failed();
    assert!(stale.contains("the object has been modified"), "{stale}");
    let edited = wharf_testkit::process::run(
        house
            .kubectl()
            .args(["edit", "deployment", "web"])
            .env("EDITOR", "sed -i s/nginx:4/nginx:5/"),
    );
    assert!(edited.ok().contains("edited"), "{}", edited.both());
}

#[test]
fn server_side_apply_knows_who_owns_what() {
    let house = House::open();
    let applied = house.with_input("apply --server-side -f -", WEB);
    assert_eq!(applied.ok(), "deployment.apps/web serverside-applied");
    house.run("scale deployment web --replicas 7");
    let conflict = house
        .with_input(
            "apply --server-side -f -",
            &WEB.replace("replicas: 3", "replicas: 4"),
        )
        .failed();
    assert!(
        conflict.contains("conflict with \"kubectl\"") && conflict.contains(".spec.replicas"),
        "{conflict}"
    );
    house
        .with_input(
            "apply --server-side --force-conflicts -f -",
            &WEB.replace("replicas: 3", "replicas: 4"),
        )
        .ok();
    assert_eq!(house.field("deployment web", ".spec.replicas"), "4");
    let managers = house.run("get deployment web --show-managed-fields -o jsonpath={.metadata.managedFields[*].operation}");
    assert!(managers.contains("Apply"), "{managers}");
}

#[test]
fn faults_are_told_with_their_fields() {
    let house = House::open();
    let bad = WEB
        .replace("replicas: 3", "replicas: -1")
        .replace("image: nginx", "image: ''");
    let told = house.with_input("create -f -", &bad).failed();
    assert!(told.contains("The Deployment \"web\" is invalid"), "{told}");
    assert!(
        told.contains("spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
        "{told}"
    );
    let unknown = WEB.replace("replicas: 3", "replicaz: 3");
    let told = house.with_input("create -f -", &unknown).failed();
    assert!(
        told.contains("strict decoding error: unknown field \"spec.replicaz\""),
        "{told}"
    );
    let warned = house.with_input("create --validate=warn -f -", &unknown);
    assert!(
        warned
            .stderr
            .contains("Warning: unknown field \"spec.replicaz\""),
        "{}",
        warned.both()
    );
    warned.ok();
    let typed = WEB
        .replace("replicas: 3", "replicas: many")
        .replace("name: web", "name: other");
    assert!(
        house
            .with_input("create --validate=false -f -", &typed)
            .failed()
            .contains("cannot be handled as a Deployment")
    );
}

#[test]
fn discovery_and_documentation_are_there() {
    let house = House::open();
    let resources = house.run("api-resources");
    for line in [
        "deployments",
        "customresourcedefinitions",
        "ingresses",
        "leases",
        "networkpolicies",
    ] {
        assert!(resources.contains(line), "no {line} in\n{resources}");
    }
    assert!(house.run("api-versions").contains("apps/v1"));
    assert!(
        house
            .run("explain deployment.spec.strategy")
            .contains("rollingUpdate")
    );
    assert!(house.run("version").contains("Server Version: v1."));
    assert_eq!(house.run("get --raw /readyz"), "ok");
    assert!(
        house
            .run("get --raw /metrics")
            .contains("apiserver_storage_objects")
    );
    assert!(house.run("get --raw /openid/v1/jwks").contains("ES256"));
}

#[test]
fn custom_resources_live_and_die_with_their_definition() {
    let house = House::open();
    house.apply(CRONTABS);
    house.run("wait --for condition=established crd/crontabs.stable.example.com --timeout=20s");
    let object = "{apiVersion: stable.example.com/v1, kind: CronTab, metadata: {name: my}, spec: {cronSpec: '* *', replicas: 2}}";
    assert_eq!(house.apply(object), "crontab.stable.example.com/my created");
    assert_eq!(house.field("ct my", ".spec.image"), "busybox");
    assert!(house.run("get ct").contains("SPEC"));
    assert_eq!(
        house.run("scale ct my --replicas 5"),
        "crontab.stable.example.com/my scaled"
    );
    assert_eq!(house.field("ct my", ".spec.replicas"), "5");
    let over = house
        .with_input("apply -f -", &object.replace("replicas: 2", "replicas: 50"))
        .failed();
    assert!(over.contains("spec.replicas: Invalid value: 50"), "{over}");
    let unknown = house
        .with_input("apply -f -", &object.replace("replicas: 2", "oops: 2"))
        .failed();
    assert!(unknown.contains("unknown field \"spec.oops\""), "{unknown}");
    assert!(house.run("explain ct.spec").contains("cronSpec"));
    house.run("delete crd crontabs.stable.example.com --timeout=20s");
    house.fails("get ct my");
}

#[test]
fn roles_decide_who_may_do_what() {
    let house = House::open();
    house.run("create role reader --verb=get,list --resource=configmaps");
    house.run("create rolebinding bob --role=reader --user=bob");
    assert_eq!(house.run("auth can-i list configmaps --as bob"), "yes");
    assert_eq!(
        house
            .try_run("auth can-i list secrets --as bob")
            .stdout
            .trim(),
        "no"
    );
    house.run("get configmaps --as bob");
    let denied = house.fails("get secrets --as bob");
    assert!(denied.contains(r#"secrets is forbidden: User "bob" cannot list resource "secrets" in API group "" in the namespace "default""#), "{denied}");
    house.run("create rolebinding admin --clusterrole=admin --user=eve");
    // The aggregated role holds what its parts hold.
    assert_eq!(house.run("auth can-i create deployments --as eve"), "yes");
    let more = house.fails("create role more --verb=get --resource=nodes --as eve");
    assert!(
        more.contains("attempting to grant RBAC permissions not currently held"),
        "{more}"
    );
    assert!(
        house
            .run("auth can-i --list --as bob")
            .contains("configmaps")
    );
}

#[test]
fn tokens_of_service_accounts_prove_identities() {
    let house = House::open();
    house.run("create serviceaccount robot");
    let token = house.run("create token robot");
    let who = house.run(&format!(
        "--token {token} --kubeconfig {} auth whoami",
        house.bare_kubeconfig().display()
    ));
    assert!(who.contains("system:serviceaccount:default:robot"), "{who}");
    house.run("create clusterrolebinding robots --clusterrole=view --serviceaccount=default:robot");
    let get = format!(
        "--token {token} --kubeconfig {} get configmaps",
        house.bare_kubeconfig().display()
    );
    house.run(&get);
    house.run("delete serviceaccount robot");
    assert!(
        house.fails(&get).contains("Unauthorized")
            || house.fails(&get).contains("must be logged in")
    );
    let url = house.run("config view --minify -o jsonpath={.clusters[0].cluster.server}");
    let mut curl = std::process::Command::new("curl");
    let answer = wharf_testkit::process::run(curl.args(["-sk", &format!("{url}/api/v1/pods")]));
    assert!(
        answer
            .ok()
            .contains("forbidden: User \\\"system:anonymous\\\" cannot list"),
        "{}",
        answer.both()
    );
}

#[test]
fn namespaces_take_their_content_with_them() {
    let house = House::open();
    house.run("create namespace work");
    house.run("-n work create configmap a");
    house.run("-n work create deployment d --image=nginx");
    assert!(
        house
            .run("-n work get configmaps")
            .contains("kube-root-ca.crt")
    );
    house.run("delete namespace work --timeout=20s");
    assert!(house.fails("get namespace work").contains("not found"));
    assert!(
        house
            .fails("-n work create configmap b")
            .contains("namespaces \"work\" not found")
    );
    assert!(
        house
            .fails("delete namespace default")
            .contains("this namespace may not be deleted")
    );
}

fn owned(house: &House) {
    house.run("create configmap owner");
    let uid = house.field("configmap owner", ".metadata.uid");
    house.apply(&format!(
        "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: owned, ownerReferences: [{{apiVersion: v1, kind: ConfigMap, name: owner, uid: {uid}, blockOwnerDeletion: true}}]}}}}"
    ));
}

#[test]
fn dependents_follow_their_owner_or_are_let_go() {
    let house = House::open();
    owned(&house);
    house.run("delete configmap owner --cascade=background");
    house.run("wait --for=delete configmap/owned --timeout=20s");
    owned(&house);
    house.run("delete configmap owner --cascade=foreground --timeout=20s");
    assert!(house.fails("get configmap owned").contains("not found"));
    owned(&house);
    house.run("delete configmap owner --cascade=orphan --timeout=20s");
    assert_eq!(
        house.field("configmap owned", ".metadata.ownerReferences"),
        ""
    );
}

#[test]
fn quotas_and_limits_hold() {
    let house = House::open();
    house.run("create quota small --hard=configmaps=2,pods=1");
    house.run("wait --for=jsonpath={.status.used.configmaps}=1 quota/small --timeout=20s");
    house.run("create configmap a");
    let over = house.fails("create configmap b");
    assert!(over.contains("exceeded quota: small, requested: configmaps=1, used: configmaps=2, limited: configmaps=2"), "{over}");
    house.run("delete configmap a");
    house.run("wait --for=jsonpath={.status.used.configmaps}=1 quota/small --timeout=20s");
    house.run("create configmap b");
    house.apply("{apiVersion: v1, kind: LimitRange, metadata: {name: l}, spec: {limits: [{type: Container, default: {cpu: 200m}, defaultRequest: {cpu: 100m}, max: {cpu: 300m}}]}}");
    house.run("run p --image=nginx");
    assert_eq!(
        house.field("pod p", ".spec.containers[0].resources.limits.cpu"),
        "200m"
    );
    assert_eq!(house.field("pod p", ".spec.serviceAccountName"), "default");
    assert!(
        house
            .fails("run q --image=nginx")
            .contains("exceeded quota")
    );
}

#[test]
fn pod_security_refuses_and_warns() {
    let house = House::open();
    house.run("create namespace tight");
    house.run("label namespace tight pod-security.kubernetes.io/enforce=baseline pod-security.kubernetes.io/warn=restricted");
    let refused = house.fails("-n tight run p --image=nginx --privileged");
    assert!(
        refused.contains("violates PodSecurity \"baseline:latest\": privileged"),
        "{refused}"
    );
    let warned = house.try_run("-n tight run p --image=nginx");
    assert!(
        warned
            .stderr
            .contains("would violate PodSecurity \"restricted:latest\""),
        "{}",
        warned.both()
    );
    warned.ok();
}

#[test]
fn certificates_are_approved_and_signed() {
    let house = House::open();
    let folder = house.folder();
    let sh = |line: &str| {
        wharf_testkit::process::run(
            std::process::Command::new("sh")
                .args(["-c", line])
                .current_dir(&folder),
        )
    };
    sh("openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout k.pem -subj /CN=jane/O=dev -out r.pem").ok();
    let request = sh("base64 -w0 r.pem").ok().to_owned();
    house.apply(&format!(
        "{{apiVersion: certificates.k8s.io/v1, kind: CertificateSigningRequest, metadata: {{name: jane}}, spec: {{request: {request}, signerName: kubernetes.io/kube-apiserver-client, usages: ['client auth']}}}}"
    ));
    assert_eq!(
        house.field("csr jane", ".spec.username"),
        "kubernetes-admin"
    );
    house.run("certificate approve jane");
    house.run("wait --for=jsonpath={.status.certificate} csr/jane --timeout=20s");
    std::fs::write(
        folder.join("c.b64"),
        house.field("csr jane", ".status.certificate"),
    )
    .unwrap();
    assert!(
        sh("base64 -d c.b64 | openssl x509 -noout -subject")
            .ok()
            .contains("jane")
    );
    sh("base64 -d c.b64 > c.pem").ok();
    let who = house.run(&format!(
        "--kubeconfig {} --client-certificate {} --client-key {} auth whoami",
        house.bare_kubeconfig().display(),
        folder.join("c.pem").display(),
        folder.join("k.pem").display()
    ));
    assert!(who.contains("jane") && who.contains("dev"), "{who}");
}

#[test]
fn services_get_addresses_of_their_own() {
    let house = House::open();
    house.run("create service nodeport a --tcp=80");
    house.run("create service clusterip b --tcp=80");
    let (a, b) = (
        house.field("service a", ".spec.clusterIP"),
        house.field("service b", ".spec.clusterIP"),
    );
    assert!(
        a.starts_with("10.") && b.starts_with("10.") && a != b,
        "{a} {b}"
    );
    let port: u16 = house
        .field("service a", ".spec.ports[0].nodePort")
        .parse()
        .unwrap();
    assert!((30_000..=32_767).contains(&port));
    let taken = format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: c}}, spec: {{clusterIP: {a}, ports: [{{port: 80}}]}}}}"
    );
    assert!(
        house
            .with_input("apply -f -", &taken)
            .failed()
            .contains("provided IP is already allocated")
    );
    house.run("delete service a");
    house.apply(&taken);
}

#[test]
fn nothing_acknowledged_is_lost_with_the_server() {
    let mut house = House::open();
    house.run("create configmap kept --from-literal=x=1");
    let version = house.field("configmap kept", ".metadata.resourceVersion");
    house.restart();
    assert_eq!(
        house.field("configmap kept", ".metadata.resourceVersion"),
        version
    );
    house.run("create configmap later");
    let later: u64 = house
        .field("configmap later", ".metadata.resourceVersion")
        .parse()
        .unwrap();
    assert!(later > version.parse().unwrap());
}

#[test]
fn an_update_may_leave_out_the_version_where_the_kind_allows_it() {
    let house = House::open();
    house.run("create configmap a --from-literal=x=1");
    let body = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"x":"2"}}"#;
    let put = |path: &str, body: &str| {
        let url = format!("{{}}{path}");
        house.curl(&[
            "-X",
            "PUT",
            "-H",
            "Content-Type: application/json",
            "-d",
            body,
            &url,
        ])
    };
    let (code, answer) = put("/api/v1/namespaces/default/configmaps/a", body);
    assert_eq!(code, 200, "{answer}");
    assert_eq!(house.field("configmap a", ".data.x"), "2");
    house.apply("{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: l}}");
    let body = r#"{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"l"}}"#;
    let (code, answer) = put(
        "/apis/coordination.k8s.io/v1/namespaces/default/leases/l",
        body,
    );
    assert_eq!(code, 422, "{answer}");
    assert!(
        answer.contains("must be specified for an update"),
        "{answer}"
    );
}

#[test]
fn lists_come_in_pages_and_watches_from_a_version() {
    let house = House::open();
    for name in ["a", "b", "c", "d", "e"] {
        house.run(&format!("create configmap {name}"));
    }
    let path = "/api/v1/namespaces/default/configmaps";
    let page = house.run(&format!("get --raw {path}?limit=2"));
    let page: serde_json::Value = serde_json::from_str(&page).unwrap();
    assert_eq!(page["items"].as_array().unwrap().len(), 2);
    assert_eq!(page["metadata"]["remainingItemCount"], 4);
    let next = page["metadata"]["continue"].as_str().unwrap();
    // What happens between two pages is not in the second.
    house.run("delete configmap c");
    let second = house.run(&format!("get --raw {path}?limit=2&continue={next}"));
    let second: serde_json::Value = serde_json::from_str(&second).unwrap();
    assert_eq!(second["items"][0]["metadata"]["name"], "c");
    assert_eq!(
        second["metadata"]["resourceVersion"],
        page["metadata"]["resourceVersion"]
    );
    let version = page["metadata"]["resourceVersion"].as_str().unwrap();
    let events = house.run(&format!(
        "get --raw {path}?watch=1&timeoutSeconds=1&resourceVersion={version}"
    ));
    let first: serde_json::Value = serde_json::from_str(events.lines().next().unwrap()).unwrap();
    assert_eq!(
        (
            first["type"].as_str(),
            first["object"]["metadata"]["name"].as_str()
        ),
        (Some("DELETED"), Some("c"))
    );
    let gone = house.run(&format!("get --raw {path}?watch=1&timeoutSeconds=1&resourceVersion=0&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"));
    assert!(
        gone.contains("\"k8s.io/initial-events-end\":\"true\""),
        "{gone}"
    );
}

const POLICY: &str = r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: few-replicas}
spec:
  paramKind: {apiVersion: v1, kind: ConfigMap}
  matchConstraints: {resourceRules: [{apiGroups: [apps], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [deployments]}]}
  matchConditions: [{name: not-free, expression: "!has(object.metadata.labels) || object.metadata.labels.app != 'free'"}]
  variables: [{name: most, expression: "int(params.data.most)"}]
  validations:
  - expression: object.spec.replicas <= variables.most
    messageExpression: "'at most ' + string(variables.most) + ' replicas for ' + request.userInfo.username"
    reason: Forbidden
"#;

const BINDING: &str = r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: here}
spec:
  policyName: few-replicas
  paramRef: {name: limits, namespace: default, parameterNotFoundAction: Deny}
  validationActions: [Deny]
  matchResources: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: default}}}
"#;

#[test]
fn policies_refuse_what_their_expressions_refuse() {
    let house = House::open();
    let apply = |text: &str| house.with_input("apply -f -", text);
    house.apply(POLICY);
    house.apply(BINDING);
    let refused = apply(WEB).failed();
    assert!(
        refused.contains("no params found for policy binding"),
        "{refused}"
    );
    house.run("create configmap limits --from-literal=most=2");
    let refused = apply(WEB).failed();
    for part in [
        "ValidatingAdmissionPolicy 'few-replicas' with binding 'here' denied request: ",
        "at most 2 replicas for ",
    ] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    apply(&WEB.replace("replicas: 3", "replicas: 2")).ok();
    // The condition and the binding's namespace decide whether it is asked at all.
    apply(&WEB.replace(
        "name: web, labels: {app: web}",
        "name: free, labels: {app: free}",
    ))
    .ok();
    house.run("create namespace elsewhere");
    apply(&WEB.replace("name: web,", "name: web, namespace: elsewhere,")).ok();

    house.apply(&BINDING.replace("[Deny]", "[Warn]"));
    let said = apply(WEB);
    assert!(
        said.stderr
            .contains("Warning: Validation failed for ValidatingAdmissionPolicy"),
        "{said:?}"
    );
    said.ok();
    let bad = POLICY.replace("int(params.data.most)", "1 +");
    let refused = apply(&bad.replace("few-replicas", "bad")).failed();
    assert!(
        refused.contains("spec.variables[0].expression"),
        "{refused}"
    );
}
