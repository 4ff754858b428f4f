//! The master key: a systemd credential, or a file that is made at first start.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rand::TryRng;
use rand::rngs::SysRng;
use zeroize::Zeroizing;

use crate::database::Database;
use crate::error::OpenError;
use crate::seal::{Place, SealError, Sealed, Sealer};

/// The sealer under this gateway's master key, after a look whether it is the key that sealed what is there.
pub(crate) async fn sealer(
    database: &Database,
    state_dir: &Path,
    credentials_dir: Option<&Path>,
) -> Result<Sealer, OpenError> {
    let check = sqlx::query!("SELECT nonce, ciphertext FROM master_key_check")
        .fetch_optional(database.readers())
        .await?;
    let path = location(state_dir, credentials_dir);
    let key = match read(&path)? {
        Some(key) => key,
        None if check.is_some() => return Err(OpenError::MasterKeyMissing(path)),
        None => make(&path)?,
    };
    let sealer = Sealer::new(&key);
    match check {
        Some(row) => {
            let sealed = Sealed { nonce: row.nonce, ciphertext: row.ciphertext };
            sealer.open(CHECK, &sealed).map_err(|_| OpenError::MasterKeyWrong)?;
        }
        None => {
            let Sealed { nonce, ciphertext } = sealer.seal(CHECK, b"culvert")?;
            let mut transaction = database.write().await?;
            sqlx::query!(
                "INSERT INTO master_key_check (singleton, nonce, ciphertext) VALUES (1, ?, ?)",
                nonce,
                ciphertext
            )
            .execute(&mut *transaction)
            .await?;
            transaction.commit().await?;
        }
    }
    Ok(sealer)
}

/// The credential if there is one, otherwise the file in the state directory.
fn location(state_dir: &Path, credentials_dir: Option<&Path>) -> PathBuf {
    credentials_dir
        .map(|directory| directory.join(FILE_NAME))
        .filter(|path| path.exists())
        .unwrap_or_else(|| state_dir.join(FILE_NAME))
}

fn read(path: &Path) -> Result<Option<Zeroizing<[u8; KEY_BYTES]>>, OpenError> {
    let content = match std::fs::read(path) {
        Ok(content) => Zeroizing::new(content),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(OpenError::File { what: "cannot read", path: path.to_owned(), source }),
    };
    decode(&content).map(Some).ok_or_else(|| OpenError::MasterKeyShape(path.to_owned()))
}

fn make(path: &Path) -> Result<Zeroizing<[u8; KEY_BYTES]>, OpenError> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    SysRng.try_fill_bytes(&mut *key).map_err(|_| SealError::Randomness)?;
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(&*key)?;
        file.sync_all()
    };
    write().map_err(|source| OpenError::File { what: "cannot write", path: path.to_owned(), source })?;
    tracing::info!(path = %path.display(), "made a master key; a backup of the database needs it to be of use");
    Ok(key)
}

/// 32 bytes as they are, or in hexadecimal with or without a newline.
fn decode(content: &[u8]) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    if let Ok(key) = <[u8; KEY_BYTES]>::try_from(content) {
        return Some(Zeroizing::new(key));
    }
    let digits = content.trim_ascii();
    if digits.len() != 2 * KEY_BYTES {
        return None;
    }
    let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(key)
}

const FILE_NAME: &str = "master-key";
const KEY_BYTES: usize = 32;
const CHECK: Place<'static> = Place { table: "master_key_check", name: "1", column: "ciphertext" };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_raw_or_in_hexadecimal() {
        assert_eq!(*decode(&[5; 32]).unwrap(), [5; 32]);
        let hex = "0f".repeat(32) + "\n";
        assert_eq!(*decode(hex.as_bytes()).unwrap(), [15; 32]);
        assert!(decode(&[5; 31]).is_none());
        assert!(decode("zz".repeat(32).as_bytes()).is_none());
    }
}
