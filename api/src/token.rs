//! `culvertd token`: tokens are made on the machine, not over the network.

use std::io::Write;

use anyhow::{Result, bail};
use store::Database;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::cli::TokenCommand;

/// Does it, and writes what is to be shown to `out`.
///
/// # Errors
/// A database that can't be opened, a name that is no name, an id that is unknown.
pub async fn run(command: TokenCommand, out: &mut impl Write) -> Result<()> {
    match command {
        TokenCommand::Create { name, role, state_dir } => {
            if name.is_empty() || name.len() > 100 || name.chars().any(char::is_control) {
                bail!("a token's name has 1 to 100 bytes and no control characters");
            }
            let token = Database::open(&state_dir).await?.create_token(&name, role).await?;
            writeln!(out, "{}", *token.text)?;
        }
        TokenCommand::List { state_dir } => {
            for token in Database::open(&state_dir).await?.tokens().await? {
                let state = if token.revoked_at_ms.is_some() { "revoked" } else { "valid" };
                let made =
                    OffsetDateTime::from_unix_timestamp(token.created_at_ms / 1000)?.format(&Rfc3339)?;
                writeln!(out, "{}  {:8}  {state:7}  {made}  {}", token.id, token.role.word(), token.name)?;
            }
        }
        TokenCommand::Revoke { id, state_dir } => {
            if !Database::open(&state_dir).await?.revoke_token(&id).await? {
                bail!("there is no valid token with id {id:?}");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use store::Role;

    use super::*;

    #[tokio::test]
    async fn tokens_are_made_listed_and_revoked() {
        let directory = tempfile::TempDir::new().unwrap();
        let state_dir = directory.path().to_owned();
        let mut made = Vec::new();
        let create =
            TokenCommand::Create { name: "me".to_owned(), role: Role::Viewer, state_dir: state_dir.clone() };
        run(create, &mut made).await.unwrap();
        let token = String::from_utf8(made).unwrap();
        let id = token.split('_').nth(1).unwrap().to_owned();
        let mut listed = Vec::new();
        run(TokenCommand::List { state_dir: state_dir.clone() }, &mut listed).await.unwrap();
        let listed = String::from_utf8(listed).unwrap();
        assert!(listed.contains(&id) && listed.contains("valid") && listed.contains("me"), "{listed}");
        assert!(!listed.contains(token.trim()));
        let revoke = || TokenCommand::Revoke { id: id.clone(), state_dir: state_dir.clone() };
        run(revoke(), &mut Vec::new()).await.unwrap();
        assert!(run(revoke(), &mut Vec::new()).await.is_err());
    }
}
