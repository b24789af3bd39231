//! The API server in process: a request goes through the stages, one file each.
//!
//! | stage | file |
//! |---|---|
//! | who asks | `authn` |
//! | whether they may | `authz` |
//! | what the body holds | `decode` |
//! | what plugins make of it | [`crate::admission`] |
//! | what the kind's rules make of it | `strategy` |
//! | reading and writing | `read`, `watch`, `create`, `update`, `delete` |
//!
//! [`Server`] is the [`crate::request::Transport`] of this process; HTTP is an adapter in front of it.

mod answer;
mod authn;
mod authz;
mod call;
mod create;
mod decode;
mod delete;
mod ending;
mod jwt;
mod kept;
mod keys;
mod leases;
mod managed;
mod page;
mod patch;
mod read;
mod reader;
mod reserve;
mod roles;
mod selection;
mod server;
mod strategy;
mod tokens;
mod update;
mod value;
mod watch;

pub use authn::{Authenticator, StaticTokens};
pub use authz::{Action, AllowAll, Attributes, Authorizer};
pub(crate) use call::{Call, forbidden};
pub(crate) use create::ATTEMPTS;
pub(crate) use decode::parse;
pub(crate) use delete::{Wanted, check_preconditions, remove};
pub(crate) use ending::marker;
pub use kept::{Claim, Kept};
pub(crate) use managed::{Managed, Undo};
pub(crate) use patch::{Patch, owned, patch};
pub(crate) use read::{get, read_object};
pub use reader::{Followed, Reader};
pub(crate) use reserve::record;
pub use reserve::{Pool, Reservation};
pub use roles::FixedTable;
pub use server::{BuildError, Builder, Server};
pub(crate) use tokens::{Bound, Claims, ISSUER, Subject, user_name};
pub(crate) use update::{Next, Rules, Source, change, rewrite, update};
