//! From nothing to the first request served.

use rkube::prelude::*;

use crate::report::{all_cores, line, median, resident, timed};

pub(crate) fn run() {
    let runtime = all_cores();
    let before = resident();
    let mut samples = Vec::new();
    let mut first = 0.0;
    for round in 0..21 {
        let took = runtime.block_on(async {
            let ((cluster, names), took) = timed(async {
                let cluster = Cluster::builder().start().await.unwrap();
                let namespaces: Api<Namespace> = Api::all(cluster.client());
                let names = namespaces.list(&ListParams::default()).await.unwrap().items.len();
                (cluster, names)
            })
            .await;
            assert_eq!(names, 4);
            if round == 0 {
                let grown = resident().saturating_sub(before) as f64 / 1e6;
                line(
                    "boot: resident memory, whole process (of it the cluster)",
                    &format!("{:.1} MB ({grown:.1})", resident() as f64 / 1e6),
                    "<= 25 MB",
                );
            }
            cluster.stop().await;
            took.as_secs_f64() * 1e3
        });
        if round == 0 {
            first = took;
        } else {
            samples.push(took);
        }
    }
    line(
        "boot: in process to the first list served, first in process",
        &format!("{first:.2} ms"),
        "<= 10 ms",
    );
    line("boot: the same, median of 20 more", &format!("{:.2} ms", median(samples)), "<= 10 ms");
}
