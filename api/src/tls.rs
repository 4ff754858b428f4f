//! TLS: a certificate of the operator's, or one that signs itself, made at first start.

use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use axum_server::tls_rustls::RustlsConfig;
use sha2::{Digest, Sha256};

/// The configuration from `tls-cert.pem` and `tls-key.pem` in the state directory. An operator may put others there;
/// when there are none, a self-signed pair for localhost and `addresses` is made.
pub(crate) async fn config(state_dir: &Path, addresses: &[IpAddr]) -> Result<RustlsConfig> {
    let certificate = state_dir.join("tls-cert.pem");
    let key = state_dir.join("tls-key.pem");
    if !certificate.exists() {
        make(&certificate, &key, addresses).context("cannot make a TLS certificate")?;
    }
    // Another provider may have been chosen already, by a test in the same process.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let pem =
        std::fs::read(&certificate).with_context(|| format!("cannot read {}", certificate.display()))?;
    let fingerprint =
        fingerprint(&pem).with_context(|| format!("{} has no certificate", certificate.display()))?;
    tracing::info!(path = %certificate.display(), sha256 = fingerprint, "TLS certificate");
    RustlsConfig::from_pem_file(&certificate, &key)
        .await
        .with_context(|| format!("cannot use {} and {}", certificate.display(), key.display()))
}

fn make(certificate: &Path, key: &Path, addresses: &[IpAddr]) -> Result<()> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    names.extend(
        addresses.iter().filter(|addr| !addr.is_unspecified() && !addr.is_loopback()).map(IpAddr::to_string),
    );
    let made = rcgen::generate_simple_self_signed(names)?;
    // The key first: a certificate without its key would be taken for the operator's.
    write_new(key, made.signing_key.serialize_pem().as_bytes(), 0o600)?;
    write_new(certificate, made.cert.pem().as_bytes(), 0o644)
}

fn write_new(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.write_all(content)?;
    Ok(file.sync_all()?)
}

/// SHA-256 of the first certificate, as `openssl x509 -fingerprint -sha256` shows it.
fn fingerprint(pem: &[u8]) -> Option<String> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let certificate = CertificateDer::pem_slice_iter(pem).next()?.ok()?;
    let digest: Vec<String> = Sha256::digest(&certificate).iter().map(|byte| format!("{byte:02X}")).collect();
    Some(digest.join(":"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn a_pair_is_made_once_and_its_key_is_private() {
        let directory = tempfile::TempDir::new().unwrap();
        config(directory.path(), &["192.0.2.1".parse().unwrap()]).await.unwrap();
        let path = directory.path().join("tls-cert.pem");
        let first = std::fs::read(&path).unwrap();
        config(directory.path(), &[]).await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), first);
        assert_eq!(fingerprint(&first).unwrap().len(), 32 * 3 - 1);
        let key = std::fs::metadata(directory.path().join("tls-key.pem")).unwrap();
        assert_eq!(key.permissions().mode() & 0o777, 0o600);
    }
}
