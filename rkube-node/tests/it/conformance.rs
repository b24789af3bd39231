//! The simulated runtime passes the suite, at once and with delays.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use rkube_api::context::Context;
use rkube_node::{
    runtime::{
        PodRuntime,
        sim::{Profiles, Sim, SimNode},
    },
    testing::{self, Fixture, pod},
};
use serde_json::{Value, json};

struct Simulated {
    node: Arc<SimNode>,
    /// How long everything takes.
    delay: &'static str,
}

impl Simulated {
    fn pod(&self, image: &str, mut behaviour: Value) -> Pod {
        behaviour["pull"]["time"] = json!({"duration": self.delay, "jitter": self.delay});
        behaviour["main"]["start"] = json!(self.delay);
        behaviour["main"]["stop"] = json!({"after": self.delay});
        pod(image, json!({"sim.rkube.dev/behaviour": behaviour.to_string()}))
    }
}

impl Fixture for Simulated {
    fn runtime(&self) -> Arc<dyn PodRuntime> {
        self.node.clone()
    }

    fn runs(&self) -> Pod {
        self.pod("nginx:1", json!({"pull": {}, "main": {}}))
    }

    fn ends(&self, code: i32) -> Pod {
        self.pod("nginx:1", json!({"pull": {}, "main": {"runs": [{"after": "1s", "code": code}]}}))
    }

    fn no_image(&self) -> Pod {
        self.pod("none:1", json!({"pull": {"fail": "always"}, "main": {}}))
    }
}

#[tokio::test(start_paused = true)]
async fn the_simulation_keeps_the_promises() {
    for delay in ["0s", "2s"] {
        let sim = Sim::new(&Context::simulated(1), Profiles::default());
        testing::check(|name| Simulated { node: sim.node(name), delay }).await;
    }
}
