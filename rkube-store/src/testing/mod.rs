//! For implementors of a backend: the suite that every backend passes, a plain reference model, a
//! recorder and checker of histories, faults around a real store. Feature `testing`.
//!
//! ```
//! use rkube_store::{Revision, Value, testing::Text};
//! let mut text = Text::new("hello");
//! text.stamp(Revision(7));
//! assert_eq!(Text::decode(&text.encode().unwrap()).unwrap().as_str(), "hello");
//! assert_eq!(text.revision(), Revision(7));
//! ```

mod dice;
#[cfg(feature = "durable")]
pub mod disk;
#[cfg(feature = "etcd")]
pub mod etcd;
pub mod faults;
pub mod history;
pub mod model;
pub mod suite;
mod text;

pub use dice::Dice;
pub use text::Text;
