//! What is kept of IKE SAs.

use zeroize::Zeroizing;

use super::*;

/// A state with a key that a search of the disk would find.
const KEY: &[u8; 32] = b"a key that must never be on disk";

fn state(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    Some(Zeroizing::new([b"state ".as_slice(), text].concat()))
}

async fn taken(store: &Store) -> Vec<(u64, Vec<u8>)> {
    store.take_ike_sas().await.unwrap().into_iter().map(|kept| (kept.spi, kept.state.to_vec())).collect()
}

#[tokio::test]
async fn what_is_kept_survives_a_restart_and_is_taken_once() {
    let fixture = fresh().await;
    let store = &fixture.store;
    store.keep_ike_sas(&[(1, state(KEY)), (u64::MAX, state(b"other")), (7, state(b"gone"))]).await.unwrap();
    store.keep_ike_sas(&[(7, None), (8, None), (1, state(b"newer"))]).await.unwrap();
    store.database().close().await;

    let again = Store::open(fixture.directory.path(), None).await.unwrap();
    let expected = vec![(1, b"state newer".to_vec()), (u64::MAX, b"state other".to_vec())];
    assert_eq!(taken(&again).await, expected);
    assert_eq!(taken(&again).await, [], "whoever took it is the only one that has it");
    again.database().close().await;
    let third = Store::open(fixture.directory.path(), None).await.unwrap();
    assert_eq!(taken(&third).await, []);
}

#[tokio::test]
async fn its_keys_are_in_no_file() {
    let fixture = fresh().await;
    fixture.store.keep_ike_sas(&[(1, state(KEY))]).await.unwrap();
    let holds = |text: &[u8]| {
        let files = std::fs::read_dir(fixture.directory.path()).unwrap();
        files.into_iter().any(|file| {
            let content = std::fs::read(file.unwrap().path()).unwrap();
            content.windows(text.len()).any(|window| window == text)
        })
    };
    assert!(holds(b"0000000000000001"), "the search finds what is there in clear");
    assert!(!holds(KEY) && !holds(b"state "));
    fixture.store.database().close().await;
    assert!(!holds(KEY) && !holds(b"state "));
}

#[tokio::test]
async fn what_was_sealed_under_another_key_or_in_another_row_is_refused() {
    let fixture = fresh().await;
    let store = &fixture.store;
    store.keep_ike_sas(&[(1, state(KEY)), (2, state(b"second"))]).await.unwrap();
    // Sealed to its row.
    let mut transaction = store.database().write().await.unwrap();
    sqlx::query("UPDATE ike_sas SET spi = '0000000000000003' WHERE spi = '0000000000000001'")
        .execute(&mut *transaction)
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(
        taken(store).await,
        [(2, b"state second".to_vec())],
        "the moved one is lost, the other is not"
    );

    store.keep_ike_sas(&[(1, state(KEY))]).await.unwrap();
    store.database().close().await;
    std::fs::write(fixture.directory.path().join("master-key"), [9; 32]).unwrap();
    let refused = Store::open(fixture.directory.path(), None).await;
    assert!(matches!(refused, Err(OpenError::MasterKeyWrong)));
}
