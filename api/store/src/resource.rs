//! The table `resources`: one row for each.

use model::read::{describe, parse};
use model::{Kind, Resource};

use crate::Store;
use crate::error::StoreError;

/// A resource as it stands in the store, without its secret.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored<R: Resource> {
    /// Its name.
    pub name: R::Name,
    /// What was written.
    pub resource: R,
    /// The count of all changes at its last change; its ETag.
    pub generation: u64,
    /// When it was made, in milliseconds since 1970.
    pub created_at_ms: i64,
    /// When it was last changed, in milliseconds since 1970.
    pub updated_at_ms: i64,
    /// Keyed fingerprint of its secret, where it has one.
    pub fingerprint: Option<String>,
}

/// A row, before it is made a domain type again.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) generation: i64,
    pub(crate) created_at_ms: i64,
    pub(crate) updated_at_ms: i64,
    pub(crate) body: String,
    pub(crate) fingerprint: Option<String>,
}

impl Store {
    /// One resource by name.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Corrupt`], [`StoreError::Database`].
    pub async fn read<R: Resource>(&self, name: &R::Name) -> Result<Stored<R>, StoreError> {
        let (kind, name) = (R::KIND.plural(), name.to_string());
        select(self.inner.database.readers(), kind, &name)
            .await?
            .ok_or(StoreError::NotFound { kind: R::KIND, name })?
            .try_into()
    }
}

pub(crate) async fn select(
    connection: impl sqlx::SqliteExecutor<'_>,
    kind: &str,
    name: &str,
) -> Result<Option<Row>, sqlx::Error> {
    sqlx::query_as!(
        Row,
        r#"SELECT r.name, r.generation, r.created_at_ms, r.updated_at_ms, r.body, s.fingerprint AS "fingerprint?"
           FROM resources r LEFT JOIN sealed s ON s.kind = r.kind AND s.name = r.name
           WHERE r.kind = ? AND r.name = ?"#,
        kind,
        name
    )
    .fetch_optional(connection)
    .await
}

pub(crate) async fn insert(
    connection: impl sqlx::SqliteExecutor<'_>,
    kind: &str,
    row: &Row,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO resources (kind, name, generation, created_at_ms, updated_at_ms, body) VALUES (?, ?, ?, ?, ?, ?)",
        kind,
        row.name,
        row.generation,
        row.created_at_ms,
        row.updated_at_ms,
        row.body
    )
    .execute(connection)
    .await
    .map(drop)
}

/// Replaces a row that is still at generation `expected`; false when it is not.
pub(crate) async fn update(
    connection: impl sqlx::SqliteExecutor<'_>,
    kind: &str,
    row: &Row,
    expected: i64,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query!(
        "UPDATE resources SET generation = ?, updated_at_ms = ?, body = ? WHERE kind = ? AND name = ? AND generation = ?",
        row.generation,
        row.updated_at_ms,
        row.body,
        kind,
        row.name,
        expected
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Deletes a row that is still at generation `expected`; false when it is not.
pub(crate) async fn delete(
    connection: impl sqlx::SqliteExecutor<'_>,
    kind: &str,
    name: &str,
    expected: i64,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query!(
        "DELETE FROM resources WHERE kind = ? AND name = ? AND generation = ?",
        kind,
        name,
        expected
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Counts a change, and gives the new generation.
pub(crate) async fn count_change(connection: impl sqlx::SqliteExecutor<'_>) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!("UPDATE revision SET generation = generation + 1 RETURNING generation")
        .fetch_one(connection)
        .await
}

impl<R: Resource> TryFrom<Row> for Stored<R> {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let (name, resource) = decode::<R>(&row.name, &row.body)?;
        Ok(Self {
            name,
            resource,
            generation: generation_of(row.generation),
            created_at_ms: row.created_at_ms,
            updated_at_ms: row.updated_at_ms,
            fingerprint: row.fingerprint,
        })
    }
}

/// The domain types of a row; what does not parse was not written by this program, or by a newer one.
pub(crate) fn decode<R: Resource>(name: &str, body: &str) -> Result<(R::Name, R), StoreError> {
    let typed_name =
        name.parse().map_err(|error: model::NameError| corrupt(R::KIND, name, error.to_string()))?;
    let value = serde_json::from_str(body).map_err(|error| corrupt(R::KIND, name, error.to_string()))?;
    let resource = parse(&value).map_err(|errors| corrupt(R::KIND, name, describe(&errors)))?;
    Ok((typed_name, resource))
}

pub(crate) fn encode<R: Resource>(name: &str, resource: &R) -> Result<String, StoreError> {
    serde_json::to_string(resource).map_err(|error| corrupt(R::KIND, name, error.to_string()))
}

/// SQLite's integers are signed; generations count from one.
pub(crate) fn generation_of(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or_default()
}

fn corrupt(kind: Kind, name: &str, detail: String) -> StoreError {
    StoreError::Corrupt { table: "resources", row: format!("{kind}/{name}"), detail }
}
