//! The table `sealed`: secrets beside the resource that they belong to.

use model::{Kind, Secret};
use sqlx::SqliteConnection;

use crate::error::StoreError;
use crate::seal::{Place, Sealed, Sealer};

/// Seals a secret in its row.
pub(crate) async fn write(
    connection: &mut SqliteConnection,
    sealer: &Sealer,
    kind: Kind,
    name: &str,
    field: &str,
    secret: &Secret,
) -> Result<(), StoreError> {
    let table = kind.plural();
    let Sealed { nonce, ciphertext } = sealer.seal(Place { table, name, column: field }, secret.expose())?;
    let fingerprint = sealer.fingerprint(secret);
    sqlx::query!(
        "INSERT INTO sealed (kind, name, field, nonce, ciphertext, fingerprint) VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT (kind, name, field) DO UPDATE
         SET nonce = excluded.nonce, ciphertext = excluded.ciphertext, fingerprint = excluded.fingerprint",
        table,
        name,
        field,
        nonce,
        ciphertext,
        fingerprint
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Opens the secret of one resource, if it has one.
pub(crate) async fn read(
    connection: &mut SqliteConnection,
    sealer: &Sealer,
    kind: Kind,
    name: &str,
    field: &str,
) -> Result<Option<Secret>, StoreError> {
    let table = kind.plural();
    let row = sqlx::query_as!(
        Sealed,
        "SELECT nonce, ciphertext FROM sealed WHERE kind = ? AND name = ? AND field = ?",
        table,
        name,
        field
    )
    .fetch_optional(connection)
    .await?;
    row.map(|sealed| open(sealer, Place { table, name, column: field }, &sealed)).transpose()
}

/// Opens all secrets of a kind: name and secret.
pub(crate) async fn read_all(
    connection: &mut SqliteConnection,
    sealer: &Sealer,
    kind: Kind,
    field: &str,
) -> Result<Vec<(String, Secret)>, StoreError> {
    let table = kind.plural();
    let rows =
        sqlx::query!("SELECT name, nonce, ciphertext FROM sealed WHERE kind = ? AND field = ?", table, field)
            .fetch_all(connection)
            .await?;
    rows.into_iter()
        .map(|row| {
            let sealed = Sealed { nonce: row.nonce, ciphertext: row.ciphertext };
            let secret = open(sealer, Place { table, name: &row.name, column: field }, &sealed)?;
            Ok((row.name, secret))
        })
        .collect()
}

fn open(sealer: &Sealer, place: Place<'_>, sealed: &Sealed) -> Result<Secret, StoreError> {
    sealer.open(place, sealed).map_err(|error| StoreError::Corrupt {
        table: "sealed",
        row: format!("{}/{}/{}", place.table, place.name, place.column),
        detail: error.to_string(),
    })
}
