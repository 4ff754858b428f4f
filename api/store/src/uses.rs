//! The table `uses`: which field of which resource names which other one.

use model::{Kind, Reference};
use sqlx::SqliteConnection;

use crate::error::User;

/// Replaces what a resource names.
pub(crate) async fn replace(
    connection: &mut SqliteConnection,
    kind: Kind,
    name: &str,
    references: &[Reference],
) -> Result<(), sqlx::Error> {
    let kind = kind.plural();
    sqlx::query!("DELETE FROM uses WHERE user_kind = ? AND user_name = ?", kind, name)
        .execute(&mut *connection)
        .await?;
    for reference in references {
        let used_kind = reference.kind.plural();
        sqlx::query!(
            "INSERT INTO uses (user_kind, user_name, pointer, used_kind, used_name) VALUES (?, ?, ?, ?, ?)",
            kind,
            name,
            reference.pointer,
            used_kind,
            reference.name
        )
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// The fields that name a resource.
pub(crate) async fn of(
    connection: &mut SqliteConnection,
    kind: Kind,
    name: &str,
) -> Result<Vec<User>, sqlx::Error> {
    let kind = kind.plural();
    sqlx::query_as!(
        User,
        "SELECT user_kind AS kind, user_name AS name, pointer FROM uses WHERE used_kind = ? AND used_name = ?
         ORDER BY user_kind, user_name, pointer",
        kind,
        name
    )
    .fetch_all(connection)
    .await
}
