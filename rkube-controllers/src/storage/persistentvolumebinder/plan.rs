//! What is to become of a claim and of a volume, as pure functions of what is there.

use std::sync::Arc;

use k8s_openapi::{
    api::{
        core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus},
        storage::v1::StorageClass,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use rkube_api::{
    helpers::volumes::{
        BETA_STORAGE_PROVISIONER, BIND_COMPLETED, BOUND_BY_CONTROLLER, NO_PROVISIONER, PROVISIONED_BY,
        SELECTED_NODE, STORAGE_PROVISIONER, Wanted, annotation, bind_volume, claim_class, claim_phase,
        claim_ref, default_class, has_class, is_bound_to, mark, volume_name, volume_phase,
        waits_for_consumer,
    },
    meta::validation::go_quoted,
};

use crate::facts;

/// What the user is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Whether something is wrong.
    pub warning: bool,
    /// The event's reason.
    pub reason: &'static str,
    /// The sentence.
    pub text: String,
}

impl Note {
    fn normal(reason: &'static str, text: impl Into<String>) -> Self {
        Self { warning: false, reason, text: text.into() }
    }

    fn warning(reason: &'static str, text: impl Into<String>) -> Self {
        Self { warning: true, reason, text: text.into() }
    }
}

/// What is to be done with a claim.
#[derive(Clone, Debug, PartialEq)]
pub enum ForClaim {
    /// Nothing.
    Nothing,
    /// It gets this volume, or the last that is missing of having it.
    Bind(Arc<PersistentVolume>),
    /// It gets the default class.
    Class(String),
    /// Somebody else is to make a volume for it: (provisioner, what the user is told).
    Provision(String, Note),
    /// It waits.
    Wait(Option<Note>),
    /// What it had is lost; the user is told once.
    Lose(Note),
}

/// What can be seen when a claim is looked at.
#[derive(Clone, Copy, Debug)]
pub struct ClaimSeen<'a> {
    /// The claim.
    pub claim: &'a PersistentVolumeClaim,
    /// The volumes, in the order of their names; those of other classes may be left out.
    pub volumes: &'a [Arc<PersistentVolume>],
    /// The volume that the claim names, if it is there.
    pub named: Option<&'a Arc<PersistentVolume>>,
    /// The classes.
    pub classes: &'a [Arc<StorageClass>],
    /// A pod that waits for the claim.
    pub waiting: Option<&'a str>,
}

/// What is to become of a claim.
pub fn for_claim(seen: &ClaimSeen<'_>) -> ForClaim {
    let claim = seen.claim;
    if annotation(&claim.metadata, BIND_COMPLETED).is_some() {
        return for_bound(seen);
    }
    if claim.metadata.deletion_timestamp.is_some() {
        return ForClaim::Nothing;
    }
    if !volume_name(claim).is_empty() {
        return for_choosy(seen);
    }
    let class = claim_class(claim);
    let class = seen.classes.iter().find(|it| !class.is_empty() && facts::name(&it.metadata) == class);
    let waits = class.is_some_and(|class| waits_for_consumer(class));
    if let Some(volume) = best(claim, seen.volumes, waits) {
        return ForClaim::Bind(volume.clone());
    }
    if !has_class(claim)
        && let Some(default) = default_class(seen.classes)
    {
        return ForClaim::Class(facts::name(&default.metadata).into());
    }
    if waits && annotation(&claim.metadata, SELECTED_NODE).is_none() {
        return ForClaim::Wait(Some(match seen.waiting {
            Some(pod) => {
                Note::normal("WaitForPodScheduled", format!("waiting for pod {pod} to be scheduled"))
            }
            None => Note::normal(
                "WaitForFirstConsumer",
                "waiting for first consumer to be created before binding",
            ),
        }));
    }
    match class {
        _ if claim_class(claim).is_empty() => ForClaim::Wait(Some(Note::normal(
            "FailedBinding",
            "no persistent volumes available for this claim and no storage class is set",
        ))),
        None => ForClaim::Wait(Some(Note::warning(
            "ProvisioningFailed",
            format!("storageclass.storage.k8s.io {} not found", go_quoted(claim_class(claim))),
        ))),
        Some(class) if class.provisioner == NO_PROVISIONER => ForClaim::Wait(Some(Note::warning(
            "ProvisioningFailed",
            format!("no volume plugin matched name: {NO_PROVISIONER}"),
        ))),
        Some(class) => {
            let provisioner = class.provisioner.clone();
            let text = format!(
                "Waiting for a volume to be created either by the external provisioner '{provisioner}' or \
                 manually by the system administrator. If volume creation is delayed, please verify that the \
                 provisioner is running and correctly registered."
            );
            ForClaim::Provision(provisioner, Note::normal("ExternalProvisioning", text))
        }
    }
}

/// The volume for a claim: of those with the fewest access modes the smallest. A claim that waits for its pod
/// gets none but the one that the scheduler, or a user, keeps for it.
fn best<'a>(
    claim: &PersistentVolumeClaim,
    volumes: &'a [Arc<PersistentVolume>],
    waits: bool,
) -> Option<&'a Arc<PersistentVolume>> {
    let wanted = Wanted::of(claim);
    let modes = |volume: &PersistentVolume| {
        let spec = volume.spec.as_ref();
        spec.and_then(|spec| spec.access_modes.as_ref()).map_or(0, Vec::len)
    };
    let kept = volumes.iter().filter(|volume| is_bound_to(volume, claim));
    if let Some(kept) = wanted.find(kept, |_| true) {
        return Some(kept);
    }
    (1..=4).filter(|_| !waits).find_map(|count| {
        let free = volumes.iter().filter(|volume| modes(volume) == count && claim_ref(volume).is_none());
        wanted.find(free, |_| true)
    })
}

/// A claim that names its volume but does not have it yet.
fn for_choosy(seen: &ClaimSeen<'_>) -> ForClaim {
    let Some(volume) = seen.named else { return ForClaim::Wait(None) };
    if is_bound_to(volume, seen.claim) {
        return ForClaim::Bind(volume.clone());
    }
    if claim_ref(volume).is_some() {
        return ForClaim::Wait(None);
    }
    match Wanted::of(seen.claim).misfit(volume) {
        None => ForClaim::Bind(volume.clone()),
        Some(why) => {
            let name = go_quoted(facts::name(&volume.metadata));
            let text = format!("Cannot bind to requested volume {name}: {why}");
            ForClaim::Wait(Some(Note::warning("VolumeMismatch", text)))
        }
    }
}

/// A claim that had its volume.
fn for_bound(seen: &ClaimSeen<'_>) -> ForClaim {
    let claim = seen.claim;
    let lose = |reason, text: &str| ForClaim::Lose(Note::warning(reason, text));
    if volume_name(claim).is_empty() {
        let text = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!";
        return lose("ClaimLost", text);
    }
    let Some(volume) = seen.named else {
        return lose("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!");
    };
    let uid = |volume: &PersistentVolume| claim_ref(volume).map(|claim| claim.uid.clone());
    match uid(volume) {
        None => ForClaim::Bind(volume.clone()),
        Some(uid) if uid == claim.metadata.uid => ForClaim::Bind(volume.clone()),
        Some(_) => {
            lose("ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")
        }
    }
}

/// What is to be done with a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForVolume {
    /// Nothing.
    Nothing,
    /// It is in this phase.
    Phase(&'static str),
    /// Its claim is to be looked at.
    LookAtClaim,
    /// It is free again, whatever it was bound to.
    Unbind,
    /// It was to go with its claim, and cannot; the user is told once.
    Fail(Note),
}

/// What is to become of a volume; `claim` is the one of the name that the volume is bound to, if it is there.
pub fn for_volume(volume: &PersistentVolume, claim: Option<&PersistentVolumeClaim>) -> ForVolume {
    let phase = |phase: &'static str| match volume_phase(volume) == phase {
        true => ForVolume::Nothing,
        false => ForVolume::Phase(phase),
    };
    let Some(reference) = claim_ref(volume) else { return phase("Available") };
    let uid = reference.uid.as_deref().unwrap_or_default();
    if uid.is_empty() {
        return phase("Available");
    }
    let Some(claim) = claim.filter(|claim| facts::uid(&claim.metadata) == uid) else {
        return reclaim(volume);
    };
    match volume_name(claim) {
        "" => ForVolume::LookAtClaim,
        name if name == facts::name(&volume.metadata) => phase("Bound"),
        // It was made for the claim, which has got another.
        _ if provisioner(volume).is_some() && policy(volume) == "Delete" => reclaim(volume),
        _ => ForVolume::Unbind,
    }
}

fn policy(volume: &PersistentVolume) -> &str {
    let policy = volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    policy.unwrap_or("Retain")
}

fn provisioner(volume: &PersistentVolume) -> Option<&str> {
    annotation(&volume.metadata, PROVISIONED_BY).filter(|provisioner| !provisioner.is_empty())
}

/// A volume whose claim is gone. Who has made it deletes it; nobody else can.
fn reclaim(volume: &PersistentVolume) -> ForVolume {
    if !matches!(volume_phase(volume), "Released" | "Failed") {
        return ForVolume::Phase("Released");
    }
    let external = provisioner(volume).is_some_and(|name| !name.starts_with("kubernetes.io/"));
    let name = go_quoted(facts::name(&volume.metadata));
    match policy(volume) {
        _ if volume_phase(volume) == "Failed" => ForVolume::Nothing,
        "Delete" if !external => ForVolume::Fail(Note::warning(
            "VolumeFailedDelete",
            format!(
                "error getting deleter volume plugin for volume {name}: no deletable volume plugin matched"
            ),
        )),
        "Recycle" => {
            ForVolume::Fail(Note::warning("VolumeFailedRecycle", "No recycler plugin found for the volume!"))
        }
        _ => ForVolume::Nothing,
    }
}

/// The volume kept for the claim; `None` if it is already.
pub fn kept(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<PersistentVolume> {
    let mut kept = volume.clone();
    bind_volume(&mut kept, claim).then_some(kept)
}

/// The volume in a phase; `None` if it is already.
pub fn in_phase(
    volume: &PersistentVolume,
    phase: &str,
    message: &str,
    now: &Time,
) -> Option<PersistentVolume> {
    if volume_phase(volume) == phase {
        return None;
    }
    let mut volume = volume.clone();
    let status = volume.status.get_or_insert_default();
    status.phase = Some(phase.into());
    status.message = (!message.is_empty()).then(|| message.into());
    status.last_phase_transition_time = Some(now.clone());
    Some(volume)
}

/// The volume as nobody's; one that a user has kept for a claim stays kept by name.
pub fn unbound(volume: &PersistentVolume) -> PersistentVolume {
    let mut volume = volume.clone();
    let by_controller =
        volume.metadata.annotations.as_mut().and_then(|all| all.remove(BOUND_BY_CONTROLLER)).is_some();
    if volume.metadata.annotations.as_ref().is_some_and(|all| all.is_empty()) {
        volume.metadata.annotations = None;
    }
    if let Some(spec) = &mut volume.spec {
        match &mut spec.claim_ref {
            Some(claim) if !by_controller => claim.uid = None,
            _ => spec.claim_ref = None,
        }
    }
    volume
}

/// The claim with its volume; `None` if it has it already.
pub fn having(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Option<PersistentVolumeClaim> {
    let name = facts::name(&volume.metadata);
    let mut having = claim.clone();
    let mut changed = false;
    if volume_name(claim) != name {
        having.spec.get_or_insert_default().volume_name = Some(name.into());
        changed = true;
        mark(&mut having.metadata, BOUND_BY_CONTROLLER, "yes");
    }
    if annotation(&claim.metadata, BIND_COMPLETED).is_none() {
        changed |= mark(&mut having.metadata, BIND_COMPLETED, "yes");
    }
    changed.then_some(having)
}

/// The claim in a phase, with what its volume offers; `None` if it is so already.
pub fn claim_in_phase(
    claim: &PersistentVolumeClaim,
    phase: &str,
    volume: Option<&PersistentVolume>,
) -> Option<PersistentVolumeClaim> {
    let spec = volume.and_then(|volume| volume.spec.as_ref());
    let before = claim.status.clone().unwrap_or_default();
    let mut status = PersistentVolumeClaimStatus {
        phase: Some(phase.into()),
        access_modes: spec.and_then(|spec| spec.access_modes.clone()),
        ..before.clone()
    };
    match spec {
        None => status.capacity = None,
        // Later it grows by what the node says of the file system.
        Some(spec) if claim_phase(claim) != "Bound" || before.capacity.is_none() => {
            status.capacity.clone_from(&spec.capacity);
            status.current_volume_attributes_class_name.clone_from(&spec.volume_attributes_class_name);
        }
        Some(_) => {}
    }
    (status != before).then(|| PersistentVolumeClaim { status: Some(status), ..claim.clone() })
}

/// The claim for which a volume is to be made; `None` if it says so already.
pub fn provisioned_by(claim: &PersistentVolumeClaim, provisioner: &str) -> Option<PersistentVolumeClaim> {
    let mut asking = claim.clone();
    // Some provisioners look at the old name still.
    let old = mark(&mut asking.metadata, BETA_STORAGE_PROVISIONER, provisioner);
    let new = mark(&mut asking.metadata, STORAGE_PROVISIONER, provisioner);
    (old || new).then_some(asking)
}
