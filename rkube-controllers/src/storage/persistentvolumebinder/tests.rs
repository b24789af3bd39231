//! The plans against a small world of claims and volumes: whatever happens in whatever order, in the end all that can
//! be bound is bound, and never two claims to one volume.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::{
        core::v1::{PersistentVolume, PersistentVolumeClaim},
        storage::v1::StorageClass,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use proptest::prelude::*;
use rkube_api::helpers::volumes::{
    Wanted, bind_volume, claim_phase, claim_ref, is_bound_to, is_fully_bound, volume_name, volume_phase,
    waits_for_consumer,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, from_value, json};

use super::plan::*;
use crate::facts;

fn object<K: DeserializeOwned>(value: Value) -> K {
    from_value(value).unwrap()
}

fn class(name: &str, provisioner: &str, mode: &str) -> Arc<StorageClass> {
    Arc::new(object(
        json!({"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode}),
    ))
}

fn classes() -> Vec<Arc<StorageClass>> {
    vec![
        class("disk", "kubernetes.io/no-provisioner", "Immediate"),
        class("late", "kubernetes.io/no-provisioner", "WaitForFirstConsumer"),
        class("made", "example.com/disks", "Immediate"),
    ]
}

fn volume(name: &str, size: &str, fields: Value) -> PersistentVolume {
    let mut spec =
        json!({"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": "disk"});
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    object(json!({"metadata": {"name": name}, "spec": spec, "status": {"phase": "Available"}}))
}

fn claim(name: &str, uid: &str, size: &str, fields: Value) -> PersistentVolumeClaim {
    let mut spec = json!({"resources": {"requests": {"storage": size}}, "accessModes": ["ReadWriteOnce"],
        "storageClassName": "disk"});
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let meta = json!({"name": name, "namespace": "d", "uid": uid});
    object(json!({"metadata": meta, "spec": spec, "status": {"phase": "Pending"}}))
}

fn now() -> Time {
    object(json!("2026-01-01T00:00:00Z"))
}

#[derive(Clone, Debug, Default, PartialEq)]
struct World {
    volumes: BTreeMap<String, PersistentVolume>,
    claims: BTreeMap<String, PersistentVolumeClaim>,
    made: usize,
}

impl World {
    fn decide(&self, name: &str) -> Option<(PersistentVolumeClaim, ForClaim)> {
        let claim = self.claims.get(name)?;
        let volumes: Vec<_> = self.volumes.values().cloned().map(Arc::new).collect();
        let named = volumes.iter().find(|volume| facts::name(&volume.metadata) == volume_name(claim));
        let seen = ClaimSeen { claim, volumes: &volumes, named, classes: &classes(), waiting: None };
        Some((claim.clone(), for_claim(&seen)))
    }

    /// Carries out the first `steps` writes of a decision: the process may end at any.
    fn bind(&mut self, claim: &PersistentVolumeClaim, volume: &PersistentVolume, steps: usize) {
        let (name, key) = (facts::name(&volume.metadata).to_owned(), facts::name(&claim.metadata).to_owned());
        let mut left = steps;
        let mut may = || {
            let may = left > 0;
            left = left.saturating_sub(1);
            may
        };
        let (mut volume, mut claim) = (volume.clone(), claim.clone());
        let write_volume: [fn(&PersistentVolume, &PersistentVolumeClaim) -> Option<PersistentVolume>; 2] =
            [kept, |volume, _| in_phase(volume, "Bound", "", &now())];
        let write_claim: [fn(&PersistentVolumeClaim, &PersistentVolume) -> Option<PersistentVolumeClaim>; 2] =
            [having, |claim, volume| claim_in_phase(claim, "Bound", Some(volume))];
        for write in write_volume {
            if let Some(next) = write(&volume, &claim) {
                if !may() {
                    return;
                }
                volume = next;
                self.volumes.insert(name.clone(), volume.clone());
            }
        }
        for write in write_claim {
            if let Some(next) = write(&claim, &volume) {
                if !may() {
                    return;
                }
                claim = next;
                self.claims.insert(key.clone(), claim.clone());
            }
        }
    }

    fn look_at_claim(&mut self, name: &str, steps: usize) {
        let Some((claim, decision)) = self.decide(name) else { return };
        let phase = match decision {
            ForClaim::Bind(volume) => return self.bind(&claim, &volume, steps),
            ForClaim::Provision(provisioner, _) => {
                if let Some(asking) = provisioned_by(&claim, &provisioner) {
                    self.claims.insert(name.into(), asking);
                }
                return;
            }
            ForClaim::Lose(_) => "Lost",
            ForClaim::Wait(_) => "Pending",
            ForClaim::Nothing | ForClaim::Class(_) => return,
        };
        if let Some(changed) = claim_in_phase(&claim, phase, None) {
            self.claims.insert(name.into(), changed);
        }
    }

    fn look_at_volume(&mut self, name: &str) {
        let Some(volume) = self.volumes.get(name).cloned() else { return };
        let claim = claim_ref(&volume).and_then(|claim| self.claims.get(claim.name.as_deref()?)).cloned();
        let (phase, volume) = match for_volume(&volume, claim.as_ref()) {
            ForVolume::Nothing => return,
            ForVolume::LookAtClaim => {
                return self.look_at_claim(facts::name(&claim.unwrap().metadata), usize::MAX);
            }
            ForVolume::Phase(phase) => (phase, volume),
            ForVolume::Unbind => ("Available", unbound(&volume)),
            ForVolume::Fail(_) => ("Failed", volume),
        };
        let changed = in_phase(&volume, phase, "", &now()).unwrap_or(volume);
        self.volumes.insert(name.into(), changed);
    }

    fn look_at_all(&mut self) {
        let (volumes, claims): (Vec<_>, Vec<_>) =
            (self.volumes.keys().cloned().collect(), self.claims.keys().cloned().collect());
        volumes.iter().for_each(|name| self.look_at_volume(name));
        claims.iter().for_each(|name| self.look_at_claim(name, usize::MAX));
    }

    fn settle(&mut self) {
        for _ in 0..20 {
            let before = self.clone();
            self.look_at_all();
            if *self == before {
                return;
            }
        }
        panic!("it does not settle: {self:?}");
    }

    fn check(&self) {
        let mut taken = BTreeMap::new();
        for (name, claim) in &self.claims {
            if claim_phase(claim) == "Bound" {
                let volume = &self.volumes[volume_name(claim)];
                assert!(is_fully_bound(claim) && is_bound_to(volume, claim), "{name}");
                assert_eq!(volume_phase(volume), "Bound");
                assert!(claim.status.as_ref().unwrap().capacity.is_some());
                assert_eq!(taken.insert(volume_name(claim), name), None, "two claims have one volume");
            } else if claim_phase(claim) == "Pending" && volume_name(claim).is_empty() {
                let class = claim.spec.as_ref().unwrap().storage_class_name.as_deref();
                let waits =
                    classes().iter().any(|it| it.metadata.name.as_deref() == class && waits_for_consumer(it));
                let free: Vec<_> = self.volumes.values().cloned().map(Arc::new).collect();
                let fits = Wanted::of(claim).find(&free, |volume| !waits || claim_ref(volume).is_some());
                assert_eq!(fits, None, "{name} could be bound");
            }
        }
        for (name, volume) in &self.volumes {
            match volume_phase(volume) {
                "Bound" => assert!(taken.contains_key(name.as_str()), "{name} has no claim"),
                "Available" => assert!(claim_ref(volume).is_none_or(|claim| claim.uid.is_none()), "{name}"),
                "Released" | "Failed" => assert!(claim_ref(volume).is_some(), "{name}"),
                other => panic!("{name} is {other}"),
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    MakeClaim(u8, u8, u8),
    MakeVolume(u8, u8, u8),
    DropClaim(u8),
    DropVolume(u8),
    /// A controller that ends after so many writes.
    LookAtClaim(u8, usize),
    LookAtVolume(u8),
    /// The scheduler chooses a volume for a claim.
    Choose(u8, u8),
    /// A provisioner does what it is asked for.
    Provision(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => any::<(u8, u8, u8)>().prop_map(|(a, b, c)| Step::MakeClaim(a % 4, b, c)),
        3 => any::<(u8, u8, u8)>().prop_map(|(a, b, c)| Step::MakeVolume(a % 4, b, c)),
        1 => (0..4u8).prop_map(Step::DropClaim),
        1 => (0..4u8).prop_map(Step::DropVolume),
        4 => (0..4u8, 0..5usize).prop_map(|(claim, steps)| Step::LookAtClaim(claim, steps)),
        3 => (0..4u8).prop_map(Step::LookAtVolume),
        1 => (0..4u8, 0..4u8).prop_map(|(claim, volume)| Step::Choose(claim, volume)),
        1 => (0..4u8).prop_map(Step::Provision),
    ];
    prop::collection::vec(step, 1..40)
}

fn class_of(choice: u8) -> &'static str {
    ["disk", "late", "made"][usize::from(choice) % 3]
}

fn apply(world: &mut World, step: &Step) {
    match *step {
        Step::MakeClaim(number, class, size) => {
            world.made += 1;
            let name = format!("c{number}");
            let mut fields = json!({"storageClassName": class_of(class)});
            if class % 5 == 4 {
                fields["volumeName"] = json!(format!("v{}", class / 5 % 4));
            }
            let new = claim(&name, &format!("u{}", world.made), &format!("{}Gi", 1 + size % 3), fields);
            world.claims.entry(name).or_insert(new);
        }
        Step::MakeVolume(number, class, size) => {
            let name = format!("v{number}");
            let policy = ["Retain", "Delete", "Recycle"][usize::from(size) / 3 % 3];
            let mut fields =
                json!({"storageClassName": class_of(class), "persistentVolumeReclaimPolicy": policy});
            if class % 5 == 4 {
                fields["claimRef"] = json!({"namespace": "d", "name": format!("c{}", class / 5 % 4)});
            }
            let mut new = volume(&name, &format!("{}Gi", 1 + size % 3), fields);
            new.status = object(json!({"phase": "Pending"}));
            world.volumes.entry(name).or_insert(new);
        }
        Step::DropClaim(number) => drop(world.claims.remove(&format!("c{number}"))),
        Step::DropVolume(number) => drop(world.volumes.remove(&format!("v{number}"))),
        Step::LookAtClaim(number, steps) => world.look_at_claim(&format!("c{number}"), steps),
        Step::LookAtVolume(number) => world.look_at_volume(&format!("v{number}")),
        Step::Choose(claim, volume) => {
            let (claim, volume) = (format!("c{claim}"), format!("v{volume}"));
            if let (Some(claim), Some(volume)) = (world.claims.get(&claim), world.volumes.get_mut(&volume))
                && volume_name(claim).is_empty()
                && claim_ref(volume).is_none()
                && claim.spec.as_ref().unwrap().storage_class_name.as_deref() == Some("late")
                && Wanted::of(claim).fit(volume).is_some()
            {
                bind_volume(volume, claim);
            }
        }
        Step::Provision(number) => {
            let Some(claim) = world.claims.get(&format!("c{number}")) else { return };
            let asked = claim.metadata.annotations.as_ref();
            let asked = asked.and_then(|all| all.get("volume.kubernetes.io/storage-provisioner"));
            let name = format!("made-{}", facts::uid(&claim.metadata));
            if asked.is_some() && volume_name(claim).is_empty() && !world.volumes.contains_key(&name) {
                let reference =
                    json!({"namespace": "d", "name": claim.metadata.name, "uid": claim.metadata.uid});
                let fields = json!({"storageClassName": "made", "claimRef": reference,
                    "persistentVolumeReclaimPolicy": "Delete"});
                let mut made = volume(&name, "3Gi", fields);
                made.metadata.annotations =
                    object(json!({"pv.kubernetes.io/provisioned-by": "example.com/disks"}));
                made.status = object(json!({"phase": "Pending"}));
                world.volumes.insert(name, made);
            }
        }
    }
}

proptest! {
    #[test]
    fn in_the_end_all_is_bound_that_can_be(steps in steps()) {
        let mut world = World::default();
        for step in &steps {
            apply(&mut world, step);
        }
        world.settle();
        world.check();
    }
}

fn seen<'a>(claim: &'a PersistentVolumeClaim, volumes: &'a [Arc<PersistentVolume>]) -> ForClaim {
    let named = volumes.iter().find(|volume| facts::name(&volume.metadata) == volume_name(claim));
    for_claim(&ClaimSeen { claim, volumes, named, classes: &classes(), waiting: None })
}

fn bound_to(decision: &ForClaim) -> &str {
    match decision {
        ForClaim::Bind(volume) => facts::name(&volume.metadata),
        _ => "",
    }
}

#[test]
fn a_claim_gets_the_volume_with_the_fewest_modes_that_is_large_enough() {
    let volumes = [
        volume("many", "2Gi", json!({"accessModes": ["ReadWriteOnce", "ReadOnlyMany"]})),
        volume("large", "9Gi", json!({})),
        volume("small", "1Gi", json!({})),
        volume("fits", "3Gi", json!({})),
    ]
    .map(Arc::new);
    assert_eq!(bound_to(&seen(&claim("c", "1", "2Gi", json!({})), &volumes)), "fits");
    let read = json!({"accessModes": ["ReadOnlyMany"]});
    assert_eq!(bound_to(&seen(&claim("c", "1", "2Gi", read), &volumes)), "many");
    let kept = json!({"claimRef": {"namespace": "d", "name": "c"}});
    let volumes = [volumes[3].clone(), Arc::new(volume("kept", "9Gi", kept))];
    assert_eq!(bound_to(&seen(&claim("c", "1", "2Gi", json!({})), &volumes)), "kept");
}

#[test]
fn a_claim_that_waits_says_for_what() {
    let note = |fields: Value, volumes: &[PersistentVolume]| {
        let volumes: Vec<_> = volumes.iter().cloned().map(Arc::new).collect();
        match seen(&claim("c", "1", "2Gi", fields), &volumes) {
            ForClaim::Wait(Some(note)) | ForClaim::Provision(_, note) => {
                format!("{}: {}", note.reason, note.text)
            }
            other => format!("{other:?}"),
        }
    };
    let none = "FailedBinding: no persistent volumes available for this claim and no storage class is set";
    assert_eq!(note(json!({"storageClassName": ""}), &[]), none);
    let first = "WaitForFirstConsumer: waiting for first consumer to be created before binding";
    assert_eq!(
        note(json!({"storageClassName": "late"}), &[volume("v", "9Gi", json!({"storageClassName": "late"}))]),
        first
    );
    let missing = "ProvisioningFailed: storageclass.storage.k8s.io \"x\" not found";
    assert_eq!(note(json!({"storageClassName": "x"}), &[]), missing);
    assert!(note(json!({"storageClassName": "made"}), &[]).contains("provisioner 'example.com/disks'"));
    let small = "VolumeMismatch: Cannot bind to requested volume \"v\": requested PV is too small";
    assert_eq!(note(json!({"volumeName": "v"}), &[volume("v", "1Gi", json!({}))]), small);
}

#[test]
fn a_claim_that_loses_its_volume_is_lost() {
    let mut world = World::default();
    world.volumes.insert("v".into(), volume("v", "2Gi", json!({})));
    world.claims.insert("c".into(), claim("c", "1", "2Gi", json!({})));
    world.settle();
    assert_eq!(claim_phase(&world.claims["c"]), "Bound");
    let mut lost = world.clone();
    lost.volumes.clear();
    lost.settle();
    assert_eq!(claim_phase(&lost.claims["c"]), "Lost");
    // Its volume is kept as it is when the claim goes, unless whoever made it deletes it.
    for (policy, by, phase) in [
        ("Retain", "", "Released"),
        ("Delete", "example.com", "Released"),
        ("Delete", "", "Failed"),
        ("Recycle", "", "Failed"),
    ] {
        let mut freed = world.clone();
        let kept = freed.volumes.get_mut("v").unwrap();
        kept.spec.as_mut().unwrap().persistent_volume_reclaim_policy = Some(policy.into());
        rkube_api::helpers::volumes::mark(&mut kept.metadata, "pv.kubernetes.io/provisioned-by", by);
        freed.claims.clear();
        freed.settle();
        assert_eq!(volume_phase(&freed.volumes["v"]), phase, "{policy} {by}");
        // Another claim of that name does not get it.
        freed.claims.insert("c".into(), claim("c", "2", "2Gi", json!({})));
        freed.settle();
        assert_eq!(claim_phase(&freed.claims["c"]), "Pending");
    }
}
