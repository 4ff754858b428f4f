mod ike_sas;

use std::path::Path;

use model::read::parse;
use model::{Interface, IpsecProfile, PreSharedKey, Resource, Site, TransformSet, Tunnel};
use serde_json::{Value, json};
use sqlx::Row as _;
use tempfile::TempDir;

use super::*;

struct Fixture {
    directory: TempDir,
    store: Store,
}

async fn fresh() -> Fixture {
    let directory = TempDir::new().unwrap();
    let store = Store::open(directory.path(), None).await.unwrap();
    Fixture { directory, store }
}

impl Fixture {
    async fn put<R: Resource>(&self, name: &str, body: Value) -> Result<Written<R>, StoreError> {
        self.put_if(name, body, Precondition::None).await
    }

    async fn put_if<R: Resource>(
        &self,
        name: &str,
        body: Value,
        precondition: Precondition,
    ) -> Result<Written<R>, StoreError> {
        self.store.write(name.parse().unwrap(), parse::<R>(&body).unwrap(), precondition).await
    }

    async fn delete<R: Resource>(&self, name: &str) -> Result<(), StoreError> {
        self.store.delete::<R>(name.parse().unwrap(), Precondition::None).await
    }

    async fn tunnel(&self, changes: Value) -> Result<Written<Tunnel>, StoreError> {
        let mut body = json!({"source": "192.0.2.1", "destination": "198.51.100.2",
            "protection": {"ipsec_profile": "branch"}});
        for (field, value) in changes.as_object().unwrap() {
            body[field] = value.clone();
        }
        self.put("gre1", body).await
    }

    /// An interface, a transform set, a profile and a tunnel.
    async fn gateway(&self) {
        self.put::<Interface>(
            "black0",
            json!({"device": "af_packet:eth1", "side": "black", "addresses": ["192.0.2.1/24"]}),
        )
        .await
        .unwrap();
        self.put::<TransformSet>("aes", json!({"encryption": "aes-256-gcm", "mode": "transport"}))
            .await
            .unwrap();
        self.put::<IpsecProfile>("branch", json!({"transform_sets": ["aes"]})).await.unwrap();
        self.tunnel(json!({})).await.unwrap();
    }

    /// Rows of the references' table.
    async fn uses(&self) -> i64 {
        sqlx::query("SELECT count(*) FROM uses")
            .fetch_one(self.store.database().readers())
            .await
            .unwrap()
            .get(0)
    }
}

#[tokio::test]
async fn what_is_written_is_read_and_survives_a_restart() {
    let fixture = fresh().await;
    fixture.gateway().await;
    let before = fixture.store.desired().await.unwrap();
    let stored = fixture.store.read::<Tunnel>(&"gre1".parse().unwrap()).await.unwrap();
    assert_eq!(stored.generation, 4);
    assert_eq!(before.tunnels[&stored.name], stored.resource);
    fixture.store.database().close().await;
    let again = Store::open(fixture.directory.path(), None).await.unwrap();
    assert_eq!(again.desired().await.unwrap(), before);
}

#[tokio::test]
async fn each_change_is_announced_and_no_change_is_not() {
    let fixture = fresh().await;
    let watch = fixture.store.watch();
    let first = fixture.put::<Site>("a", json!({"description": "one"})).await.unwrap();
    assert!(first.created);
    assert_eq!(*watch.borrow(), 1);
    let same = fixture.put::<Site>("a", json!({"description": "one"})).await.unwrap();
    assert!(!same.created);
    assert_eq!(same.stored, first.stored);
    assert_eq!(*watch.borrow(), 1);
    let second = fixture.put::<Site>("a", json!({"description": "two"})).await.unwrap();
    assert_eq!(second.stored.generation, 2);
    assert_eq!(second.stored.created_at_ms, first.stored.created_at_ms);
    fixture.delete::<Site>("a").await.unwrap();
    assert_eq!(*watch.borrow(), 3);
}

#[tokio::test]
async fn a_resource_made_again_never_has_an_old_generation() {
    let fixture = fresh().await;
    let first = fixture.put::<Site>("a", json!({})).await.unwrap();
    fixture.delete::<Site>("a").await.unwrap();
    let second = fixture.put::<Site>("a", json!({})).await.unwrap();
    assert!(second.stored.generation > first.stored.generation);
}

#[tokio::test]
async fn dangling_references_are_all_named() {
    let fixture = fresh().await;
    let result = fixture
        .put::<IpsecProfile>("p", json!({"transform_sets": ["x", "y"], "isakmp_policies": ["z"]}))
        .await;
    let Err(StoreError::Invalid(errors)) = result else { panic!("{result:?}") };
    let pointers: Vec<&str> = errors.iter().map(|error| error.pointer.as_str()).collect();
    assert_eq!(pointers, ["/transform_sets/0", "/transform_sets/1", "/isakmp_policies/0"]);
    assert!(fixture.store.desired().await.unwrap().ipsec_profiles.is_empty());
}

#[tokio::test]
async fn what_is_in_use_is_not_deleted() {
    let fixture = fresh().await;
    fixture.gateway().await;
    let result = fixture.delete::<TransformSet>("aes").await;
    let Err(StoreError::InUse(users)) = result else { panic!("{result:?}") };
    assert_eq!(users[0].to_string(), "ipsec-profiles/branch (/transform_sets/0)");
    assert_eq!(fixture.uses().await, 2);
    fixture.delete::<Tunnel>("gre1").await.unwrap();
    fixture.delete::<IpsecProfile>("branch").await.unwrap();
    fixture.delete::<TransformSet>("aes").await.unwrap();
    assert_eq!(fixture.uses().await, 0);
}

#[tokio::test]
async fn foreign_keys_hold_even_against_hand_written_sql() {
    let fixture = fresh().await;
    fixture.gateway().await;
    let mut transaction = fixture.store.database().write().await.unwrap();
    let deleted =
        sqlx::query("DELETE FROM resources WHERE kind = 'transform-sets'").execute(&mut *transaction).await;
    assert!(deleted.unwrap_err().to_string().contains("FOREIGN KEY"));
}

#[tokio::test]
async fn an_interface_whose_address_a_tunnel_begins_at_is_needed() {
    let fixture = fresh().await;
    fixture.gateway().await;
    let result = fixture.delete::<Interface>("black0").await;
    let Err(StoreError::Needed(by)) = result else { panic!("{result:?}") };
    assert_eq!(by, ["tunnels/gre1 /source: no interface bears 192.0.2.1"]);
}

#[tokio::test]
async fn a_change_that_breaks_another_resource_is_refused_and_leaves_no_trace() {
    let fixture = fresh().await;
    fixture.gateway().await;
    fixture.tunnel(json!({"mtu_bytes": 1442})).await.unwrap();
    let before = fixture.store.desired().await.unwrap();
    let smaller = json!({"device": "af_packet:eth1", "side": "black", "addresses": ["192.0.2.1/24"], "mtu_bytes": 1400});
    let result = fixture.put::<Interface>("black0", smaller).await;
    let Err(StoreError::Invalid(errors)) = result else { panic!("{result:?}") };
    assert!(errors[0].detail.starts_with("makes tunnels/gre1 /mtu_bytes"), "{errors:?}");
    assert_eq!(fixture.store.desired().await.unwrap(), before);
    // The next write still sees the larger MTU.
    fixture.tunnel(json!({"mtu_bytes": 1441})).await.unwrap();
}

#[tokio::test]
async fn preconditions_hold_or_nothing_happens() {
    let fixture = fresh().await;
    let absent = |body| fixture.put_if::<Site>("a", body, Precondition::Absent);
    let first = absent(json!({})).await.unwrap().stored.generation;
    let again = absent(json!({"description": "x"})).await;
    assert!(matches!(again, Err(StoreError::PreconditionFailed { current: Some(1) })), "{again:?}");
    let at = |generations: &[u64], body| {
        fixture.put_if::<Site>("a", body, Precondition::Generation(generations.to_vec()))
    };
    let second = at(&[first], json!({"description": "y"})).await.unwrap().stored.generation;
    let stale = at(&[first], json!({"description": "z"})).await;
    assert!(matches!(stale, Err(StoreError::PreconditionFailed { .. })), "{stale:?}");
    at(&[7, second], json!({"description": "z"})).await.unwrap();
    let missing = fixture.put_if::<Site>("b", json!({}), Precondition::Present).await;
    assert!(matches!(missing, Err(StoreError::PreconditionFailed { current: None })), "{missing:?}");
    let gone = fixture.store.delete::<Site>("b".parse().unwrap(), Precondition::None).await;
    assert!(matches!(gone, Err(StoreError::NotFound { .. })), "{gone:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_writers_with_one_generation_exactly_one_wins() {
    let fixture = fresh().await;
    let first = fixture.put::<Site>("a", json!({})).await.unwrap().stored.generation;
    let writers: Vec<_> = (0..16)
        .map(|writer| {
            let store = fixture.store.clone();
            tokio::spawn(async move {
                let site = parse::<Site>(&json!({"description": format!("writer {writer}")})).unwrap();
                store.write("a".parse().unwrap(), site, Precondition::Generation(vec![first])).await.is_ok()
            })
        })
        .collect();
    let mut winners = 0;
    for writer in writers {
        winners += u32::from(writer.await.unwrap());
    }
    assert_eq!(winners, 1);
    assert_eq!(*fixture.store.watch().borrow(), first + 1);
}

#[tokio::test]
async fn a_key_is_kept_when_absent_counted_when_changed_and_opened_for_control_alone() {
    let fixture = fresh().await;
    let missing = fixture.put::<PreSharedKey>("k", json!({"peer": "192.0.2.2"})).await;
    let Err(StoreError::Invalid(errors)) = missing else { panic!("{missing:?}") };
    assert_eq!(errors[0].pointer, "/key");
    let put = |body| fixture.put::<PreSharedKey>("k", body);
    let first = put(json!({"peer": "192.0.2.2", "key": "a long and secret sentence"})).await.unwrap();
    assert_eq!(first.stored.resource.version, Some(1));
    assert!(first.stored.resource.key.is_none());
    assert_eq!(first.warnings, []);
    let kept = put(json!({"peer": "192.0.2.3"})).await.unwrap();
    assert_eq!(kept.stored.resource.version, Some(1));
    assert_eq!(kept.stored.fingerprint, first.stored.fingerprint);
    let same = put(json!({"peer": "192.0.2.3", "key": "a long and secret sentence"})).await.unwrap();
    assert_eq!(same.stored, kept.stored);
    let changed = put(json!({"peer": "192.0.2.3", "key": "shorter one"})).await.unwrap();
    assert_eq!(changed.stored.resource.version, Some(2));
    assert_ne!(changed.stored.fingerprint, first.stored.fingerprint);
    assert_eq!(changed.warnings[0].pointer, "/key");
    let chosen = put(json!({"peer": "192.0.2.3", "version": 40})).await.unwrap();
    assert_eq!(chosen.stored.resource.version, Some(40));
    let desired = fixture.store.desired().await.unwrap();
    let key = &desired.pre_shared_keys[&"k".parse().unwrap()];
    assert_eq!(key.key.as_ref().unwrap().expose(), b"shorter one");
    let read = fixture.store.read::<PreSharedKey>(&"k".parse().unwrap()).await.unwrap();
    assert_eq!(read, chosen.stored);
}

#[tokio::test]
async fn no_file_of_the_store_bears_a_secret() {
    let fixture = fresh().await;
    let secret = "swordfish-swordfish-swordfish";
    fixture.put::<PreSharedKey>("k", json!({"peer": "192.0.2.2", "key": secret})).await.unwrap();
    let token = fixture.store.database().create_token("t", Role::Admin).await.unwrap();
    let token_secret = token.text.rsplit_once(&format!("{}_", token.id)).unwrap().1.to_owned();
    assert!(!holds(fixture.directory.path(), secret) && !holds(fixture.directory.path(), &token_secret));
    fixture.store.database().close().await;
    assert!(!holds(fixture.directory.path(), secret) && !holds(fixture.directory.path(), &token_secret));
    assert!(holds(fixture.directory.path(), &token.id), "the search finds what is there");
}

fn holds(directory: &Path, needle: &str) -> bool {
    let contains = |path: &Path| {
        let content = std::fs::read(path).unwrap();
        content.windows(needle.len()).any(|window| window == needle.as_bytes())
    };
    std::fs::read_dir(directory).unwrap().any(|entry| contains(&entry.unwrap().path()))
}

#[tokio::test]
async fn a_sealed_row_moved_to_another_name_does_not_open() {
    let fixture = fresh().await;
    fixture.put::<PreSharedKey>("a", json!({"peer": "192.0.2.2", "key": "the key of a"})).await.unwrap();
    fixture.put::<PreSharedKey>("b", json!({"peer": "192.0.2.3", "key": "the key of b"})).await.unwrap();
    let mut transaction = fixture.store.database().write().await.unwrap();
    sqlx::query(
        "UPDATE sealed SET (nonce, ciphertext) = (SELECT nonce, ciphertext FROM sealed WHERE name = 'a')
         WHERE name = 'b'",
    )
    .execute(&mut *transaction)
    .await
    .unwrap();
    transaction.commit().await.unwrap();
    let opened = fixture.store.desired().await;
    let Err(StoreError::Corrupt { table: "sealed", row, .. }) = opened else { panic!("{opened:?}") };
    assert_eq!(row, "pre-shared-keys/b/key");
}

#[tokio::test]
async fn another_master_key_is_told_at_once() {
    let fixture = fresh().await;
    fixture.store.database().close().await;
    let path = fixture.directory.path().join("master-key");
    std::fs::write(&path, [9; 32]).unwrap();
    let opened = Store::open(fixture.directory.path(), None).await;
    assert!(matches!(opened, Err(OpenError::MasterKeyWrong)), "{opened:?}");
    std::fs::remove_file(&path).unwrap();
    let opened = Store::open(fixture.directory.path(), None).await;
    assert!(matches!(opened, Err(OpenError::MasterKeyMissing(_))), "{opened:?}");
    assert!(!path.exists(), "no key is made that could open nothing");
}

#[tokio::test]
async fn a_credential_goes_before_the_file() {
    let (state, credentials) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    std::fs::write(credentials.path().join("master-key"), [3; 32]).unwrap();
    let store = Store::open(state.path(), Some(credentials.path())).await.unwrap();
    store.database().close().await;
    assert!(!state.path().join("master-key").exists());
    assert!(Store::open(state.path(), Some(credentials.path())).await.is_ok());
}

#[tokio::test]
async fn files_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = fresh().await;
    fixture.gateway().await;
    for entry in std::fs::read_dir(fixture.directory.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.path());
    }
}

#[tokio::test]
async fn pages_follow_the_names() {
    let fixture = fresh().await;
    for name in ["c", "a", "b", "d", "e"] {
        fixture.put::<Site>(name, json!({})).await.unwrap();
    }
    let names = |page: &Page<Site>| page.items.iter().map(|it| it.name.to_string()).collect::<String>();
    let first = fixture.store.page::<Site>(None, 2).await.unwrap();
    assert_eq!((names(&first).as_str(), first.more), ("ab", true));
    fixture.delete::<Site>("b").await.unwrap();
    let second = fixture.store.page::<Site>(Some("b"), 2).await.unwrap();
    assert_eq!((names(&second).as_str(), second.more), ("cd", true));
    let last = fixture.store.page::<Site>(Some("d"), 2).await.unwrap();
    assert_eq!((names(&last).as_str(), last.more), ("e", false));
}

#[tokio::test]
async fn tokens_are_known_until_revoked() {
    let fixture = fresh().await;
    let database = fixture.store.database();
    let token = database.create_token("tool", Role::Operator).await.unwrap();
    let caller = database.authenticate(&token.text).await.unwrap().unwrap();
    assert_eq!((caller.name.as_str(), caller.role), ("tool", Role::Operator));
    let other = database.create_token("other", Role::Viewer).await.unwrap();
    let mixed = format!("cvt_{}_{}", token.id, other.text.rsplit_once(&format!("{}_", other.id)).unwrap().1);
    for wrong in ["", "cvt_", "cvt_x", "cvt_x_y", &mixed, &token.text[..token.text.len() - 1]] {
        assert_eq!(database.authenticate(wrong).await.unwrap(), None, "{wrong}");
    }
    assert!(database.revoke_token(&token.id).await.unwrap());
    assert!(!database.revoke_token(&token.id).await.unwrap());
    assert_eq!(database.authenticate(&token.text).await.unwrap(), None);
    let listed = database.tokens().await.unwrap();
    assert_eq!(listed.len(), 2);
    assert_eq!(listed.iter().filter(|token| token.revoked_at_ms.is_some()).count(), 1);
}

#[tokio::test]
async fn a_row_that_is_no_resource_is_named() {
    let fixture = fresh().await;
    fixture.put::<Site>("a", json!({})).await.unwrap();
    let mut transaction = fixture.store.database().write().await.unwrap();
    sqlx::query("UPDATE resources SET body = '{\"networks\": 5}'").execute(&mut *transaction).await.unwrap();
    transaction.commit().await.unwrap();
    let read = fixture.store.read::<Site>(&"a".parse().unwrap()).await;
    let Err(StoreError::Corrupt { row, detail, .. }) = read else { panic!("{read:?}") };
    assert_eq!(row, "sites/a");
    assert!(detail.contains("/networks"), "{detail}");
}
