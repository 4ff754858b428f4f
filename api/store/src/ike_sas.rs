//! The table `ike_sas`: what the control plane keeps of IKE SAs beyond its own end.

use zeroize::Zeroizing;

use crate::Store;
use crate::error::StoreError;
use crate::seal::{Place, Sealed};

/// What is kept of an IKE SA. It bears keys, and has no `Debug` therefore.
pub struct KeptIkeSa {
    /// Our SPI.
    pub spi: u64,
    /// Its state, in a form that is the control plane's own.
    pub state: Zeroizing<Vec<u8>>,
}

impl Store {
    /// Keeps these states of IKE SAs, by our SPIs, and forgets those of which there is none: all of it or nothing. It is on
    /// disk when this returns.
    ///
    /// # Errors
    /// [`StoreError::Seal`], [`StoreError::Database`].
    pub async fn keep_ike_sas(
        &self,
        changes: &[(u64, Option<Zeroizing<Vec<u8>>>)],
    ) -> Result<(), StoreError> {
        let mut transaction = self.inner.database.write().await?;
        for (spi, state) in changes {
            let name = name(*spi);
            match state {
                Some(state) => {
                    let Sealed { nonce, ciphertext } = self.inner.sealer.seal(place(&name), state)?;
                    sqlx::query!(
                        "INSERT INTO ike_sas (spi, nonce, ciphertext) VALUES (?, ?, ?)
                         ON CONFLICT (spi) DO UPDATE
                         SET nonce = excluded.nonce, ciphertext = excluded.ciphertext",
                        name,
                        nonce,
                        ciphertext
                    )
                    .execute(&mut *transaction)
                    .await?;
                }
                None => {
                    sqlx::query!("DELETE FROM ike_sas WHERE spi = ?", name)
                        .execute(&mut *transaction)
                        .await?;
                }
            }
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Takes all that is kept of IKE SAs out of the database: whoever has it is the only one, and nobody has it twice. What
    /// does not open is left out, and lost.
    ///
    /// # Errors
    /// [`StoreError::Database`]; then everything is still there.
    pub async fn take_ike_sas(&self) -> Result<Vec<KeptIkeSa>, StoreError> {
        let mut transaction = self.inner.database.write().await?;
        let rows =
            sqlx::query!("SELECT spi, nonce, ciphertext FROM ike_sas").fetch_all(&mut *transaction).await?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        sqlx::query!("DELETE FROM ike_sas").execute(&mut *transaction).await?;
        transaction.commit().await?;
        let mut kept = Vec::new();
        for row in rows {
            let sealed = Sealed { nonce: row.nonce, ciphertext: row.ciphertext };
            let opened = self.inner.sealer.open(place(&row.spi), &sealed);
            match (u64::from_str_radix(&row.spi, 16), opened) {
                (Ok(spi), Ok(state)) => {
                    kept.push(KeptIkeSa { spi, state: Zeroizing::new(state.expose().to_vec()) });
                }
                (_, Err(error)) => tracing::warn!(spi = row.spi, %error, "an IKE SA was not kept well"),
                (Err(_), _) => tracing::warn!(spi = row.spi, "an IKE SA was kept under no SPI"),
            }
        }
        Ok(kept)
    }
}

fn name(spi: u64) -> String {
    format!("{spi:016x}")
}

fn place(name: &str) -> Place<'_> {
    Place { table: "ike-sas", name, column: "state" }
}
