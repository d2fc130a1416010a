//! Plans of slices on plain objects.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Endpoints, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};
use wharf_client::Cache;

use super::plan::{ENDPOINTS_MAX, Plan, plan};
use super::{frame, mirror, pods};

fn service(spec: Value) -> Service {
    let service =
        json!({"metadata": {"name": "web", "namespace": "default", "uid": "s"}, "spec": spec});
    serde_json::from_value(service).unwrap()
}

fn pod(name: &str, ip: &str, ready: bool, more: Value) -> Arc<Pod> {
    let status = if ready { "True" } else { "False" };
    let mut pod = json!({"metadata": {"name": name, "namespace": "default", "uid": name}, "spec": {"containers": []},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}, {"ip": "fd00::1"}],
            "conditions": [{"type": "Ready", "status": status}]}});
    for (key, value) in more.as_object().into_iter().flatten() {
        pod[key] = value.clone();
    }
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn planned(service: &Service, pods: &[Arc<Pod>], existing: &[Arc<EndpointSlice>]) -> Plan {
    let nodes: Cache<Node> = Cache::new(Vec::new());
    plan(
        pods::groups(service, pods, &nodes),
        existing,
        &frame(service),
    )
}

fn made(plan: Plan) -> Vec<Arc<EndpointSlice>> {
    plan.create.into_iter().map(Arc::new).collect()
}

fn many(range: std::ops::Range<usize>) -> Vec<Arc<Pod>> {
    let one = |n: usize| {
        pod(
            &format!("p{n:03}"),
            &format!("10.42.{}.{}", n / 200, n % 200 + 1),
            true,
            json!({}),
        )
    };
    range.map(one).collect()
}

#[test]
fn states_of_pods_are_told() {
    let web = service(json!({"ports": [{"port": 80}], "ipFamilies": ["IPv4"]}));
    let going = json!({"name": "c", "namespace": "default", "uid": "c", "deletionTimestamp": "2026-01-01T00:00:00Z"});
    let all = [
        pod("a", "10.42.0.1", true, json!({})),
        pod("b", "10.42.0.2", false, json!({})),
        pod("c", "10.42.0.3", true, json!({"metadata": going})),
        pod(
            "d",
            "10.42.0.4",
            true,
            json!({"status": {"phase": "Failed", "podIP": "10.42.0.4"}}),
        ),
        pod(
            "e",
            "10.42.0.5",
            true,
            json!({"status": {"phase": "Pending"}}),
        ),
    ];
    let told = |service: &Service| {
        let slices = planned(service, &all, &[]).create;
        assert_eq!(slices.len(), 1);
        let endpoints = slices[0].endpoints.clone().unwrap();
        let states = endpoints.iter().map(|one| {
            let state = one.conditions.clone().unwrap();
            let name = one.target_ref.clone().unwrap().name.unwrap();
            (
                name,
                state.ready.unwrap(),
                state.serving.unwrap(),
                state.terminating.unwrap(),
            )
        });
        states.collect::<Vec<_>>()
    };
    let of = |name: &str, a, b, c| (name.to_owned(), a, b, c);
    assert_eq!(
        told(&web),
        [
            of("a", true, true, false),
            of("b", false, false, false),
            of("c", false, true, true)
        ]
    );
    let open = service(json!({"ports": [{"port": 80}], "publishNotReadyAddresses": true}));
    assert_eq!(
        told(&open),
        [
            of("a", true, true, false),
            of("b", true, false, false),
            of("c", true, true, true)
        ]
    );
}

#[test]
fn families_and_named_ports_make_slices_of_their_own() {
    let spec = json!({"clusterIP": "None", "ipFamilies": ["IPv4", "IPv6"], "ports": [{"name": "h", "port": 80, "targetPort": "http"}]});
    let web = service(spec);
    let with = |port: i32| {
        json!({"spec": {"hostname": "h0", "subdomain": "web",
            "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": port}]}]}})
    };
    let pods = [
        pod("a", "10.42.0.1", true, with(8080)),
        pod("b", "10.42.0.2", true, with(9090)),
    ];
    let slices = planned(&web, &pods, &[]).create;
    let told: Vec<_> = slices
        .iter()
        .map(|s| {
            (
                s.address_type.clone(),
                s.ports.as_ref().unwrap()[0].port.unwrap(),
            )
        })
        .collect();
    let of = |family: &str, port| (family.to_owned(), port);
    assert_eq!(
        told,
        [
            of("IPv4", 8080),
            of("IPv4", 9090),
            of("IPv6", 8080),
            of("IPv6", 9090)
        ]
    );
    let labels = slices[0].metadata.labels.as_ref().unwrap();
    assert_eq!(labels["service.kubernetes.io/headless"], "");
    assert_eq!(labels["kubernetes.io/service-name"], "web");
    assert_eq!(
        slices[0].endpoints.as_ref().unwrap()[0].hostname.as_deref(),
        Some("h0")
    );
}

#[test]
fn slices_have_a_hundred_and_few_are_written() {
    let web = service(json!({"ports": [{"port": 80}], "ipFamilies": ["IPv4"]}));
    let slices = made(planned(&web, &many(0..250), &[]));
    let sizes = |slices: &[Arc<EndpointSlice>]| {
        slices
            .iter()
            .map(|s| s.endpoints.as_ref().unwrap().len())
            .collect::<Vec<_>>()
    };
    assert_eq!(sizes(&slices), [ENDPOINTS_MAX, ENDPOINTS_MAX, 50]);
    assert_eq!(
        planned(&web, &many(0..250), &slices),
        Plan::default(),
        "all is well"
    );
    let more = planned(&web, &many(0..260), &slices);
    assert_eq!(
        (more.create.len(), more.update.len(), more.delete.len()),
        (0, 1, 0)
    );
    let fewer = planned(&web, &many(0..200), &slices);
    assert_eq!(
        (fewer.create.len(), fewer.update.len(), fewer.delete.len()),
        (0, 0, 1)
    );
    let none = planned(&web, &[], &slices);
    assert_eq!(
        (none.create.len(), none.delete.len()),
        (1, 3),
        "an empty one without ports"
    );
    assert_eq!(planned(&web, &[], &made(none)), Plan::default());
}

#[test]
fn endpoints_are_mirrored() {
    let endpoints: Endpoints = serde_json::from_value(json!({"metadata": {"name": "db", "namespace": "default"},
        "subsets": [{"addresses": [{"ip": "192.0.2.1"}, {"ip": "2001:db8::1"}], "notReadyAddresses": [{"ip": "192.0.2.2"}],
            "ports": [{"port": 5432}]}]}))
    .unwrap();
    let groups = mirror::groups(&endpoints);
    assert_eq!(groups.len(), 2);
    assert_eq!(groups[0].endpoints.len(), 2);
    assert_eq!(
        groups[0].endpoints[1].conditions.as_ref().unwrap().ready,
        Some(false)
    );
    assert_eq!(groups[1].address_type, "IPv6");
}
