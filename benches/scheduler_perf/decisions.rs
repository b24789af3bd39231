//! The engine alone.

use std::{sync::Arc, time::Duration};

use rkube::{
    api::context::Rng,
    prelude::Pod,
    sched::{
        engine::{Classes, Decision, Engine},
        framework::{Handle, Listers, ProfileConfig, Profiles},
        plugins,
        queue::Nominator,
        snapshot::{PlacedPod, PodInfo, Snapshot},
    },
};

use crate::workloads::Workload;

struct Alone {
    snapshot: Snapshot,
    classes: Classes,
    nominator: Nominator,
    profiles: Profiles,
    rng: Rng,
    decided: usize,
    listers: Listers,
}

impl Alone {
    /// Shows the plugins what a workload's pod has of volumes.
    fn show(&self, workload: &Workload, pod: &Pod) {
        let Some(backing) = workload.backing else { return };
        let (claim, volume) = backing.of(pod);
        self.listers.get().insert(Arc::new(claim));
        self.listers.get().insert(Arc::new(volume));
    }

    /// Decides for a pod and assumes that; makes room for it if that is what it takes.
    fn place(&mut self, info: &Arc<PodInfo>) {
        let profile = self.profiles.of(info).unwrap();
        // The second try finds the room that the first one asked for.
        for _ in 0..2 {
            let engine = Engine { snapshot: &self.snapshot, nominator: &self.nominator, rng: &self.rng };
            self.decided += 1;
            match engine.decide_in(&mut self.classes, info, profile).decision {
                Decision::Place(placement) => {
                    let node = self.snapshot.view(placement.node).name().to_owned();
                    self.snapshot.assume(PlacedPod::from(&**info), &node);
                    return;
                }
                Decision::Unfit(unfit) if !unfit.plan.victims.is_empty() => {
                    for victim in &unfit.plan.victims {
                        self.snapshot.remove_pod(&victim.uid);
                    }
                }
                Decision::Unfit(_) => return,
                Decision::Fail(status) => panic!("{status}"),
            }
        }
    }
}

/// So many pods are made before the time is taken that their decisions take.
const AT_ONCE: usize = 50_000;

/// Decisions a second, on one core.
pub(crate) fn rate(workload: &Workload, nodes: usize) -> f64 {
    let info = |pod| Arc::new(PodInfo::new(Arc::new(pod)));
    let handle = Handle::default();
    let profiles = Profiles::build(&[ProfileConfig::standard()], &plugins::all(), &handle).unwrap();
    let mut alone = Alone {
        snapshot: Snapshot::default(),
        classes: Classes::default(),
        nominator: Nominator::default(),
        profiles,
        rng: Rng::seeded(1),
        decided: 0,
        listers: handle.listers,
    };
    for node in workload.nodes(nodes) {
        if let Some(drivers) = workload.backing.and_then(|backing| backing.on_node(&node)) {
            alone.listers.get().insert(Arc::new(drivers));
        }
        alone.snapshot.set_node(Arc::new(node));
    }
    for pod in workload.first_pods(nodes) {
        alone.show(workload, &pod);
        alone.place(&info(pod));
    }
    workload.measured_pods(nodes).for_each(|pod| alone.show(workload, &pod));
    let mut measured = workload.measured_pods(nodes).map(info);
    let count = workload.sizes(nodes).measured;
    let beside = workload.beside.as_ref().map(|(every, shape)| (*every, crate::workloads::parsed(shape)));
    let others = beside.iter().flat_map(|(every, shape)| {
        (0..count / every).map(|number| info(crate::workloads::named(shape, "beside", number, 0)))
    });
    let mut others: Vec<_> = others.collect();
    alone.decided = 0;
    let (mut number, mut took) = (0, Duration::ZERO);
    loop {
        // Not all at once: a million whole pods would not fit.
        let some: Vec<_> = measured.by_ref().take(AT_ONCE).collect();
        if some.is_empty() {
            return alone.decided as f64 / took.max(Duration::from_nanos(1)).as_secs_f64();
        }
        let start = crate::thread_time();
        for pod in &some {
            alone.place(pod);
            number += 1;
            if beside.as_ref().is_some_and(|(every, _)| number % every == 0)
                && let Some(other) = others.pop()
            {
                alone.place(&other);
            }
        }
        took += crate::thread_time() - start;
    }
}
