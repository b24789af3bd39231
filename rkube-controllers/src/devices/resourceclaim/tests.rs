//! The plans, by tables.

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::Pod,
    resource::v1::{ResourceClaim, ResourceClaimTemplate},
};
use serde_json::{Value, json};

use super::plan::*;

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn pod(status: Value, node: Value) -> Pod {
    read(json!({
        "metadata": {"name": "p", "namespace": "default", "uid": "u"},
        "spec": {"containers": [], "nodeName": node, "resourceClaims": [
            {"name": "mine", "resourceClaimTemplateName": "t"}, {"name": "shared", "resourceClaimName": "s"}
        ]},
        "status": status
    }))
}

fn recorded(name: Value) -> Value {
    json!({"resourceClaimStatuses": [{"name": "mine", "resourceClaimName": name}]})
}

fn claim(name: &str, owner: &str, status: Value) -> Arc<ResourceClaim> {
    let mut claim = json!({
        "metadata": {"name": name, "namespace": "default", "finalizers": [FINALIZER]}, "status": status
    });
    if !owner.is_empty() {
        claim["metadata"]["annotations"] = json!({ANNOTATION: "mine"});
        claim["metadata"]["ownerReferences"] =
            json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": owner, "controller": true}]);
    }
    Arc::new(read(claim))
}

fn template() -> Option<Arc<ResourceClaimTemplate>> {
    let spec = json!({"devices": {"requests": [{"name": "r"}]}});
    let meta = json!({"labels": {"a": "b"}, "annotations": {"c": "d"}});
    Some(Arc::new(read(json!({"metadata": {"name": "t"}, "spec": {"metadata": meta, "spec": spec}}))))
}

fn planned(pod: &Pod, claims: &[Arc<ResourceClaim>]) -> Result<Made, PlanError> {
    let find = |name: &str| claims.iter().find(|claim| claim.metadata.name.as_deref() == Some(name)).cloned();
    let owned: Vec<_> =
        claims.iter().filter(|it| owning_pod(it).is_some_and(|it| it.uid == "u")).cloned().collect();
    let mut plan = for_pod(pod, &owned, find, |_| template());
    assert_eq!((plan[1].0.as_str(), &plan[1].1), ("shared", &Ok(Made::Not)));
    plan.remove(0).1
}

#[test]
fn a_claim_is_made_once_for_a_pod() {
    let fresh = pod(Value::Null, Value::Null);
    let Ok(Made::Now(made)) = planned(&fresh, &[]) else { panic!() };
    let meta = &made.metadata;
    assert_eq!(meta.generate_name.as_deref(), Some("p-mine-"));
    assert_eq!(meta.annotations.as_ref().unwrap()[ANNOTATION], "mine");
    assert_eq!(
        (&meta.annotations.as_ref().unwrap()["c"], &meta.labels.as_ref().unwrap()["a"]),
        (&"d".into(), &"b".into())
    );
    let owner = owning_pod(&made).unwrap();
    assert_eq!((&*owner.uid, owner.block_owner_deletion), ("u", Some(true)));
    assert_eq!(made.spec, template().unwrap().spec.clone().unwrap().spec);

    let known = Ok(Made::Known("c".into()));
    assert_eq!(planned(&pod(recorded(json!("c")), Value::Null), &[claim("c", "u", Value::Null)]), known);
    assert_eq!(planned(&fresh, &[claim("c", "u", Value::Null)]), known, "found by its owner");
    let stale = pod(recorded(json!("c")), Value::Null);
    assert!(matches!(planned(&stale, &[]), Ok(Made::Now(_))), "deleted by accident");
    assert!(
        matches!(planned(&stale, &[claim("c", "other", Value::Null)]), Ok(Made::Now(_))),
        "of an earlier pod"
    );
    assert_eq!(planned(&pod(recorded(Value::Null), Value::Null), &[]), Ok(Made::Not));

    let missing = for_pod(&fresh, &[], |_| None, |_| None).remove(0).1.unwrap_err().to_string();
    assert_eq!(
        missing,
        "resource claim template \"t\": resourceclaimtemplate.resource.k8s.io \"t\" not found"
    );
}

#[test]
fn long_names_are_cut_in_proportion() {
    let mut long = pod(Value::Null, Value::Null);
    long.metadata.name = Some("p".repeat(200));
    let Ok(Made::Now(made)) = planned(&long, &[]) else { panic!() };
    let base = made.metadata.generate_name.unwrap();
    assert!(base.len() <= 57 && base.starts_with("ppp") && base.ends_with("-m"), "{base}");
}

#[test]
fn a_pod_that_got_its_node_elsewhere_is_noted() {
    let allocated = |users: Value| claim("s", "", json!({"allocation": {}, "reservedFor": users}));
    let user = json!([{"resource": "pods", "name": "p", "uid": "u"}]);
    let count = |pod: &Pod, claim: Arc<ResourceClaim>| {
        to_reserve(pod, |name| (name == "s").then(|| claim.clone())).len()
    };
    assert_eq!(count(&pod(Value::Null, json!("n")), allocated(json!([]))), 1);
    assert_eq!(count(&pod(Value::Null, json!("n")), allocated(user)), 0);
    assert_eq!(count(&pod(Value::Null, Value::Null), allocated(json!([]))), 0);
    assert_eq!(count(&pod(Value::Null, json!("n")), claim("s", "", Value::Null)), 0);
}

#[test]
fn what_nobody_uses_is_given_back() {
    let two = json!({"allocation": {}, "reservedFor": [
        {"resource": "pods", "name": "p", "uid": "u"}, {"resource": "pods", "name": "q", "uid": "v"}
    ]});
    let plan = |claim: &ResourceClaim, uses: &[bool], owner: Option<&Pod>| {
        let users: Vec<_> = reserved_for(claim).zip(uses.iter().copied()).collect();
        for_claim(claim, &users, owner)
    };
    let shared = claim("s", "", two);
    assert_eq!(plan(&shared, &[true, true], None), ClaimPlan::default());
    let one_left = plan(&shared, &[false, true], None);
    let status = one_left.status.unwrap();
    assert_eq!((status.reserved_for.unwrap()[0].uid.as_str(), status.allocation.is_some()), ("v", true));
    assert!(!one_left.unprotect && !one_left.delete);
    let unused = plan(&shared, &[false, false], None);
    assert_eq!(unused.status, Some(Default::default()));
    assert!(unused.unprotect && !unused.delete);

    let idle = claim("s", "", json!({"allocation": {}}));
    assert_eq!(plan(&idle, &[], None), ClaimPlan::default(), "allocated for somebody to come");
    let mut going = (*idle).clone();
    going.metadata.deletion_timestamp = Some(read(json!("2026-01-01T00:00:00Z")));
    let gone = plan(&going, &[], None);
    assert!(gone.unprotect && gone.status == Some(Default::default()));
    assert!(without_protection(&going).is_none(), "not while it has devices");
    let freed = ResourceClaim { status: None, ..going };
    assert_eq!(without_protection(&freed).unwrap().metadata.finalizers, Some(vec![]));
}

#[test]
fn the_claim_of_a_pod_that_has_ended_goes() {
    let made = claim("c", "u", Value::Null);
    let running = pod(json!({"phase": "Running"}), json!("n"));
    let ended = pod(json!({"phase": "Succeeded"}), json!("n"));
    let mut other = running.clone();
    other.metadata.uid = Some("v".into());
    let mut never = pod(Value::Null, Value::Null);
    never.metadata.deletion_timestamp = Some(read(json!("2026-01-01T00:00:00Z")));
    let deletes = |owner: Option<&Pod>| for_claim(&made, &[], owner).delete;
    assert!(!deletes(Some(&running)) && !deletes(None), "the garbage collector sees to those without owners");
    assert!(deletes(Some(&ended)) && deletes(Some(&other)) && deletes(Some(&never)));
    assert!(!for_claim(&claim("s", "", Value::Null), &[], Some(&ended)).delete, "not one that a user made");
}
