//! The SQLite file: one connection that writes, several that read.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqlitePool, Transaction};

use crate::error::OpenError;

/// Connections to one `culvert.db`. Several processes may have it open: culvertd, and `culvertd token`.
#[derive(Clone, Debug)]
pub struct Database {
    writer: SqlitePool,
    readers: SqlitePool,
}

impl Database {
    /// Opens or makes `culvert.db` in `state_dir` (made with mode 0700 when missing) and applies the migrations.
    ///
    /// # Errors
    /// [`OpenError::File`], [`OpenError::Database`], [`OpenError::Migration`].
    pub async fn open(state_dir: &Path) -> Result<Self, OpenError> {
        let path = state_dir.join("culvert.db");
        let file_error = |what, path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::File { what, path, source }
        };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(state_dir)
            .map_err(file_error("cannot make", state_dir))?;
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A commit survives a loss of power, not only the end of the process.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5))
            .pragma("secure_delete", "ON")
            .pragma("trusted_schema", "OFF");
        let writer = SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await?;
        // Before anything is in it; SQLite gives the WAL files the mode of the database.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
            .map_err(file_error("cannot set the mode of", &path))?;
        MIGRATIONS.run(&writer).await?;
        let readers =
            SqlitePoolOptions::new().max_connections(READERS).connect_with(options.read_only(true)).await?;
        Ok(Self { writer, readers })
    }

    /// The connections that read.
    pub(crate) fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// A transaction that may write, from its first statement on: there is no upgrade that could meet a busy database
    /// half-way.
    pub(crate) async fn write(&self) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
        self.writer.begin_with("BEGIN IMMEDIATE").await
    }

    /// Closes all connections, folding the WAL into the database.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations");

const READERS: u32 = 4;
