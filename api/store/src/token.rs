//! Bearer tokens: `cvt_<id>_<secret>`, of which the hash of the secret is kept.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rand::TryRng;
use rand::rngs::SysRng;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::database::Database;
use crate::error::StoreError;
use crate::seal::SealError;
use crate::unix_ms;

/// What the bearer of a token may do; each role may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Reads everything but secrets, which no one reads.
    Viewer,
    /// Also acts: rekeys.
    Operator,
    /// Also changes the desired state.
    Admin,
}

/// Who makes a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Id of the token.
    pub token_id: String,
    /// Name of the token.
    pub name: String,
    /// What it may do.
    pub role: Role,
}

/// A token as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its id, which stands in the token.
    pub id: String,
    /// For people.
    pub name: String,
    /// What its bearer may do.
    pub role: Role,
    /// When it was made, in milliseconds since 1970.
    pub created_at_ms: i64,
    /// When it was revoked.
    pub revoked_at_ms: Option<i64>,
}

/// A token that was just made: the only moment at which it is known.
pub struct NewToken {
    /// Its id.
    pub id: String,
    /// The whole token, to be shown once.
    pub text: Zeroizing<String>,
}

impl Database {
    /// Makes a token.
    ///
    /// # Errors
    /// [`StoreError::Seal`] without randomness, [`StoreError::Database`].
    pub async fn create_token(&self, name: &str, role: Role) -> Result<NewToken, StoreError> {
        let mut id = [0; ID_BYTES];
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        SysRng.try_fill_bytes(&mut id).map_err(|_| SealError::Randomness)?;
        SysRng.try_fill_bytes(&mut *secret).map_err(|_| SealError::Randomness)?;
        let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let secret = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(*secret));
        let (digest, role, now) = (Sha256::digest(secret.as_bytes()).to_vec(), role.word(), unix_ms());
        let mut transaction = self.write().await?;
        sqlx::query!(
            "INSERT INTO tokens (id, name, role, secret_sha256, created_at_ms) VALUES (?, ?, ?, ?, ?)",
            id,
            name,
            role,
            digest,
            now
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        let text = Zeroizing::new(format!("{PREFIX}{id}_{}", *secret));
        Ok(NewToken { id, text })
    }

    /// All tokens, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`], [`StoreError::Database`].
    pub async fn tokens(&self) -> Result<Vec<Token>, StoreError> {
        let rows = sqlx::query!(
            "SELECT id, name, role, created_at_ms, revoked_at_ms FROM tokens ORDER BY created_at_ms, id"
        )
        .fetch_all(self.readers())
        .await?;
        rows.into_iter()
            .map(|row| {
                let role = role_of(&row.id, &row.role)?;
                let (id, name) = (row.id, row.name);
                Ok(Token {
                    id,
                    name,
                    role,
                    created_at_ms: row.created_at_ms,
                    revoked_at_ms: row.revoked_at_ms,
                })
            })
            .collect()
    }

    /// Revokes a token; false when there is none of this id, or it was revoked before.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn revoke_token(&self, id: &str) -> Result<bool, StoreError> {
        let now = unix_ms();
        let mut transaction = self.write().await?;
        let done = sqlx::query!(
            "UPDATE tokens SET revoked_at_ms = ? WHERE id = ? AND revoked_at_ms IS NULL",
            now,
            id
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(done.rows_affected() == 1)
    }

    /// Who bears this token; `None` when it is not one, unknown or revoked.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`], [`StoreError::Database`].
    pub async fn authenticate(&self, text: &str) -> Result<Option<Caller>, StoreError> {
        let Some((id, secret)) = text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')) else {
            return Ok(None);
        };
        let row = sqlx::query!(
            "SELECT name, role, secret_sha256 FROM tokens WHERE id = ? AND revoked_at_ms IS NULL",
            id
        )
        .fetch_optional(self.readers())
        .await?;
        let digest = Sha256::digest(secret.as_bytes());
        match row {
            Some(row) if bool::from(digest.as_slice().ct_eq(&row.secret_sha256)) => {
                let role = role_of(id, &row.role)?;
                Ok(Some(Caller { token_id: id.to_owned(), name: row.name, role }))
            }
            _ => Ok(None),
        }
    }
}

impl Role {
    /// Every role, least first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|role| role.word() == text)
            .ok_or_else(|| format!("{text:?} is not a role; allowed: viewer, operator, admin"))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl fmt::Debug for NewToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewToken").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Known to scanners that look for leaked secrets.
const PREFIX: &str = "cvt_";
const ID_BYTES: usize = 6;
const SECRET_BYTES: usize = 32;

fn role_of(id: &str, word: &str) -> Result<Role, StoreError> {
    word.parse().map_err(|detail| StoreError::Corrupt { table: "tokens", row: id.to_owned(), detail })
}
