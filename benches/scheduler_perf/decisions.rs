//! The engine alone.

use std::{sync::Arc, time::Duration};

use rkube::{
    api::context::Rng,
    sched::{
        engine::{Classes, Decision, Engine},
        framework::Profiles,
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
}

impl Alone {
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

/// Decisions a second, on one core.
pub(crate) fn rate(workload: &Workload, nodes: usize) -> f64 {
    let info = |pod| Arc::new(PodInfo::new(Arc::new(pod)));
    let mut alone = Alone {
        snapshot: Snapshot::default(),
        classes: Classes::default(),
        nominator: Nominator::default(),
        profiles: Profiles::standard(),
        rng: Rng::seeded(1),
        decided: 0,
    };
    for node in workload.nodes(nodes) {
        alone.snapshot.set_node(Arc::new(node));
    }
    workload.first_pods(nodes).for_each(|pod| alone.place(&info(pod)));
    let measured: Vec<_> = workload.measured_pods(nodes).map(info).collect();
    let beside = workload.beside.as_ref().map(|(every, shape)| (*every, crate::workloads::parsed(shape)));
    let others = beside.iter().flat_map(|(every, shape)| {
        (0..measured.len() / every).map(|number| info(crate::workloads::named(shape, "beside", number, 0)))
    });
    let mut others: Vec<_> = others.collect();
    alone.decided = 0;
    let start = crate::thread_time();
    for (number, pod) in measured.iter().enumerate() {
        alone.place(pod);
        if beside.as_ref().is_some_and(|(every, _)| number % every == every - 1)
            && let Some(other) = others.pop()
        {
            alone.place(&other);
        }
    }
    alone.decided as f64 / (crate::thread_time() - start).max(Duration::from_nanos(1)).as_secs_f64()
}
