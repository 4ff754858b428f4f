//! What can go wrong, sorted by whose fault it is.

use std::fmt;
use std::path::PathBuf;

use model::Kind;
use model::read::FieldError;

use crate::seal::SealError;

/// Why the store can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file or directory of the state.
    #[error("{what} {}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The master key's file holds something else.
    #[error("{} must hold 32 bytes, or 64 hexadecimal digits", .0.display())]
    MasterKeyShape(PathBuf),
    /// There are sealed secrets but no key.
    #[error(
        "the master key is missing: {} does not exist, but this database has secrets that were sealed under one",
        .0.display()
    )]
    MasterKeyMissing(PathBuf),
    /// The key is another one.
    #[error("the master key is not the one that sealed this database's secrets")]
    MasterKeyWrong,
    /// No randomness, or no memory for a cipher.
    #[error("cannot seal")]
    Seal(#[from] SealError),
    /// SQLite.
    #[error("cannot open the database")]
    Database(#[from] sqlx::Error),
    /// A migration failed, or the database is newer than this program.
    #[error("cannot bring the database to this version's schema")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// Its content.
    #[error("cannot read the desired state")]
    Content(#[from] StoreError),
}

/// Why a read or a write was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such resource.
    #[error("there is no {}/{name}", kind.plural())]
    NotFound {
        /// Kind asked for.
        kind: Kind,
        /// Name asked for.
        name: String,
    },
    /// `If-Match` or `If-None-Match` does not hold.
    #[error("the precondition does not hold: {}", current.map_or_else(
        || "the resource does not exist".to_owned(),
        |generation| format!("the resource is at generation {generation}"),
    ))]
    PreconditionFailed {
        /// The generation that the resource has; `None` when it does not exist.
        current: Option<u64>,
    },
    /// Fields that don't go with the rest of the desired state.
    #[error("{}", model::read::describe(.0))]
    Invalid(Vec<FieldError>),
    /// Deleting it would leave references dangling.
    #[error("it is in use by {}", list(.0))]
    InUse(Vec<User>),
    /// Deleting it would make other resources wrong.
    #[error("other resources need it: {}", .0.join("; "))]
    Needed(Vec<String>),
    /// A row that this program did not write this way.
    #[error("table {table}, row {row}: {detail}")]
    Corrupt {
        /// Table.
        table: &'static str,
        /// Primary key in words.
        row: String,
        /// What is wrong; never a secret.
        detail: String,
    },
    /// Sealing or opening a secret failed.
    #[error("cannot seal or open a secret")]
    Seal(#[from] SealError),
    /// SQLite.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    /// The write was cut off by the end of the program.
    #[error("the write was interrupted")]
    Interrupted,
}

/// A field that names the resource in question.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct User {
    /// Kind of the user, as in paths.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its field.
    pub pointer: String,
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} ({})", self.kind, self.name, self.pointer)
    }
}

fn list(users: &[User]) -> String {
    users.iter().map(User::to_string).collect::<Vec<_>>().join(", ")
}
