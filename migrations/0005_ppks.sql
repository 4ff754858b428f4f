-- A kind more: post-quantum pre-shared keys. SQLite cannot change a CHECK, so the three tables are made anew with what they hold; the
-- old children go before their parent, whose deletion would cascade into them.
CREATE TABLE resources_new (
    kind TEXT NOT NULL CHECK (kind IN (
        'sites', 'interfaces', 'isakmp-policies', 'pre-shared-keys', 'ppks', 'certificates', 'transform-sets',
        'ipsec-profiles', 'access-lists', 'crypto-maps', 'tunnels', 'routes')),
    name TEXT NOT NULL,
    generation INTEGER NOT NULL UNIQUE,
    created_at_ms INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL,
    body TEXT NOT NULL CHECK (json_valid(body)),
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;

INSERT INTO resources_new (kind, name, generation, created_at_ms, updated_at_ms, body)
SELECT kind, name, generation, created_at_ms, updated_at_ms, body FROM resources;

CREATE TABLE uses_new (
    user_kind TEXT NOT NULL,
    user_name TEXT NOT NULL,
    pointer TEXT NOT NULL,
    used_kind TEXT NOT NULL,
    used_name TEXT NOT NULL,
    PRIMARY KEY (user_kind, user_name, pointer),
    FOREIGN KEY (user_kind, user_name) REFERENCES resources_new (kind, name) ON DELETE CASCADE,
    FOREIGN KEY (used_kind, used_name) REFERENCES resources_new (kind, name) ON DELETE RESTRICT
) STRICT, WITHOUT ROWID;

INSERT INTO uses_new (user_kind, user_name, pointer, used_kind, used_name)
SELECT user_kind, user_name, pointer, used_kind, used_name FROM uses;

CREATE TABLE sealed_new (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    field TEXT NOT NULL,
    nonce BLOB NOT NULL CHECK (length(nonce) = 12),
    ciphertext BLOB NOT NULL,
    fingerprint TEXT NOT NULL,
    PRIMARY KEY (kind, name, field),
    FOREIGN KEY (kind, name) REFERENCES resources_new (kind, name) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

INSERT INTO sealed_new (kind, name, field, nonce, ciphertext, fingerprint)
SELECT kind, name, field, nonce, ciphertext, fingerprint FROM sealed;

DROP TABLE uses;
DROP TABLE sealed;
DROP TABLE resources;

ALTER TABLE resources_new RENAME TO resources;
ALTER TABLE uses_new RENAME TO uses;
ALTER TABLE sealed_new RENAME TO sealed;

CREATE INDEX uses_by_used ON uses (used_kind, used_name);
