//! Which images nodes have.

use k8s_openapi::api::core::v1::Node;

use super::Interner;

/// An image that nodes have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Its size in bytes, as the first node said that had it.
    pub size: i64,
    /// How many nodes have it.
    pub nodes: u32,
}

/// The images of all nodes, by the names under which nodes know them.
#[derive(Clone, Debug, Default)]
pub struct Images {
    names: Interner<str>,
    images: Vec<Image>,
}

impl Images {
    /// The number of an image that some node has.
    pub fn find(&self, name: &str) -> Option<u32> {
        self.names.find(name)
    }

    /// An image by its number.
    pub fn get(&self, number: u32) -> Image {
        self.images.get(number as usize).copied().unwrap_or_default()
    }

    /// A node has come: the numbers of its images, sorted.
    pub(super) fn acquire(&mut self, node: &Node) -> Box<[u32]> {
        let list = node.status.iter().flat_map(|status| status.images.iter().flatten());
        let named = list.flat_map(|image| {
            image.names.iter().flatten().map(|name| (name.as_str(), image.size_bytes.unwrap_or(0)))
        });
        let mut numbers = Vec::new();
        for (name, size) in named {
            // A name that a node lists twice is one image.
            if self.names.find(name).is_some_and(|number| numbers.contains(&number)) {
                continue;
            }
            let number = self.names.acquire(name);
            self.images.resize(self.names.bound(), Image::default());
            let image = &mut self.images[number as usize];
            if image.nodes == 0 {
                image.size = size;
            }
            image.nodes += 1;
            numbers.push(number);
        }
        numbers.sort_unstable();
        numbers.into()
    }

    /// A node has gone.
    pub(super) fn release(&mut self, numbers: &[u32]) {
        for &number in numbers {
            self.names.release(number);
            self.images[number as usize].nodes -= 1;
        }
    }
}
