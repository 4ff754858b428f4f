-- What is kept of established IKE SAs, so that a restarted culvertd goes on with them. All of it is sealed: it bears keys.
CREATE TABLE ike_sas (
    spi TEXT NOT NULL PRIMARY KEY CHECK (length(spi) = 16),
    nonce BLOB NOT NULL CHECK (length(nonce) = 12),
    ciphertext BLOB NOT NULL
) STRICT, WITHOUT ROWID;
