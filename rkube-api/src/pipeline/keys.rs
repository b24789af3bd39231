//! Where objects lie in the store: `/registry/<resource>/<namespace>/<name>` for kinds of Kubernetes' own
//! groups, `/registry/<group>/<resource>/<namespace>/<name>` for all others.

use rkube_store::{Key, Prefix};

use crate::registry::Definition;

/// The folder of a resource's objects, of one namespace or of all.
pub(crate) fn folder(definition: &Definition, namespace: Option<&str>) -> Prefix {
    let mut text = base(definition, namespace.map_or(0, str::len) + 1);
    if let Some(namespace) = namespace {
        text.push_str(namespace);
        text.push('/');
    }
    Prefix::new(text)
}

/// The key of an object; the namespace is empty for a cluster-scoped one.
pub(crate) fn object(definition: &Definition, namespace: &str, name: &str) -> Key {
    let mut text = base(definition, namespace.len() + name.len() + 1);
    if !namespace.is_empty() {
        text.push_str(namespace);
        text.push('/');
    }
    text.push_str(name);
    Key::new(text)
}

fn base(definition: &Definition, more: usize) -> String {
    let (group, plural) = definition.place();
    let mut text = String::with_capacity("/registry///".len() + group.len() + plural.len() + more);
    text.push_str("/registry/");
    if !group.is_empty() {
        text.push_str(group);
        text.push('/');
    }
    text.push_str(plural);
    text.push('/');
    text
}

/// Whether a text can be one part of a key. What cannot names nothing that exists.
pub(crate) fn is_segment(text: &str) -> bool {
    !text.is_empty() && text != "." && text != ".." && !text.contains(['/', '%']) && text.len() <= 253
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::{apps::v1::Deployment, coordination::v1::Lease, core::v1::Node};

    use super::*;

    #[test]
    fn keys_lie_in_their_folders() {
        let deployments = Definition::of::<Deployment>().build();
        let key = object(&deployments, "default", "web");
        assert_eq!(key.as_str(), "/registry/deployments/default/web");
        assert!(folder(&deployments, None).contains(&key));
        assert!(folder(&deployments, Some("default")).contains(&key));
        assert!(!folder(&deployments, Some("def")).contains(&key));
        let nodes = Definition::of::<Node>().cluster().build();
        assert_eq!(object(&nodes, "", "n1").as_str(), "/registry/nodes/n1");
        let mut leases = Definition::of::<Lease>().build();
        assert_eq!(object(&leases, "a", "b").as_str(), "/registry/leases/a/b");
        leases.custom = true;
        assert_eq!(object(&leases, "a", "b").as_str(), "/registry/coordination.k8s.io/leases/a/b");
        (leases.custom, leases.names.group) = (false, "example.com".into());
        assert_eq!(object(&leases, "a", "b").as_str(), "/registry/example.com/leases/a/b");
    }

    #[test]
    fn what_could_leave_its_folder_is_no_segment() {
        for text in ["", ".", "..", "a/b", "a%2f", &"x".repeat(254)] {
            assert!(!is_segment(text), "{text}");
        }
        assert!(is_segment("a.b-c"));
    }
}
