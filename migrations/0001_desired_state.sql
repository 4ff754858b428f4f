-- Desired state: resources as documents, the references between them, and sealed secrets beside them.

-- Counts every change of any resource; the generation of a resource is the count at its last change, so that an
-- ETag never comes back, not even after a resource was deleted and made again.
CREATE TABLE revision (
    singleton INTEGER NOT NULL PRIMARY KEY CHECK (singleton = 1),
    generation INTEGER NOT NULL
) STRICT;

INSERT INTO revision (singleton, generation) VALUES (1, 0);

CREATE TABLE resources (
    kind TEXT NOT NULL CHECK (kind IN (
        'sites', 'interfaces', 'isakmp-policies', 'pre-shared-keys', 'transform-sets',
        'ipsec-profiles', 'access-lists', 'crypto-maps', 'tunnels', 'routes')),
    name TEXT NOT NULL,
    generation INTEGER NOT NULL UNIQUE,
    created_at_ms INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL,
    body TEXT NOT NULL CHECK (json_valid(body)),
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;

-- The field `pointer` of the user names the used.
CREATE TABLE uses (
    user_kind TEXT NOT NULL,
    user_name TEXT NOT NULL,
    pointer TEXT NOT NULL,
    used_kind TEXT NOT NULL,
    used_name TEXT NOT NULL,
    PRIMARY KEY (user_kind, user_name, pointer),
    FOREIGN KEY (user_kind, user_name) REFERENCES resources (kind, name) ON DELETE CASCADE,
    FOREIGN KEY (used_kind, used_name) REFERENCES resources (kind, name) ON DELETE RESTRICT
) STRICT, WITHOUT ROWID;

CREATE INDEX uses_by_used ON uses (used_kind, used_name);

-- AES-256-GCM under a key derived from the master key, with kind, name and field as additional data.
CREATE TABLE sealed (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    field TEXT NOT NULL,
    nonce BLOB NOT NULL CHECK (length(nonce) = 12),
    ciphertext BLOB NOT NULL,
    fingerprint TEXT NOT NULL,
    PRIMARY KEY (kind, name, field),
    FOREIGN KEY (kind, name) REFERENCES resources (kind, name) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- A constant sealed at first start: tells a wrong master key before anything is lost to it.
CREATE TABLE master_key_check (
    singleton INTEGER NOT NULL PRIMARY KEY CHECK (singleton = 1),
    nonce BLOB NOT NULL CHECK (length(nonce) = 12),
    ciphertext BLOB NOT NULL
) STRICT;
