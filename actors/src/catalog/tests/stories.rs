//! What one change after the other comes to.

use super::*;

fn names(events: &Mutex<Vec<CatalogEvent>>) -> Vec<String> {
    let name = |event: CatalogEvent| match event {
        CatalogEvent::ChannelChanged { old, new } => format!("{} is {}", old.slug, new.slug),
        CatalogEvent::ChannelRemoved { channel } => format!("{} removed", channel.slug),
        CatalogEvent::TokenChanged { new, .. } => format!("{} changed", new.id),
        CatalogEvent::TokenRevoked { token } => format!("{} revoked", token.id),
        CatalogEvent::WebhookMade { .. } => "webhook made".into(),
        CatalogEvent::WebhookChanged { .. } => "webhook changed".into(),
        CatalogEvent::WebhookRemoved { .. } => "webhook removed".into(),
        CatalogEvent::SourceMade { .. } | CatalogEvent::SourceChanged { .. } | CatalogEvent::SourceRemoved { .. } => {
            "source".into()
        }
    };
    std::mem::take(&mut *events.lock()).into_iter().map(name).collect()
}

#[test]
fn a_change_is_seen_by_the_next_change_at_once_and_by_requests_when_it_is_durable() {
    let mut stage = Stage::new();
    let mut first = stage.begin(create(stage.catalog.clone(), "home", 10));
    let mut second = stage.begin(create(stage.catalog.clone(), "home", 10));
    assert!(
        !stage.poll(&mut first) && !stage.poll(&mut second),
        "what is refused because of a name waits for the name"
    );
    assert!(stage.catalog.find(ChannelKind::Map, "home").is_none());
    stage.commit(1);
    assert!(stage.poll(&mut first));
    assert!(matches!(first.answer, Some(Ok(ChannelNo(1)))));
    assert!(stage.catalog.find(ChannelKind::Map, "home").is_some() && stage.catalog.token("tok_1").is_some());
    stage.commit(1);
    assert!(stage.poll(&mut second));
    assert!(matches!(second.answer, Some(Err(ChangeError::Refused(No::Taken)))));
}

#[test]
fn a_failed_commit_changes_nothing_and_what_rested_on_it_is_decided_again() {
    let mut stage = Stage::new();
    let mut first = stage.begin(create(stage.catalog.clone(), "home", 10));
    let mut refused = stage.begin(create(stage.catalog.clone(), "home", 10));
    let mut another = stage.begin(create(stage.catalog.clone(), "away", 10));
    let before = stage.catalog.read(shown);
    stage.worker.fail(1);
    assert!(stage.poll(&mut first));
    assert!(matches!(first.answer, Some(Err(ChangeError::Append(AppendError::Store(_))))));
    assert_eq!(stage.catalog.read(shown), before);
    // both are told of the conflict, and run again
    stage.commit(2);
    assert!(!stage.poll(&mut refused) && !stage.poll(&mut another));
    assert_eq!(stage.worker.waiting(), 2);
    stage.commit(2);
    assert!(stage.poll(&mut refused) && stage.poll(&mut another));
    // numbers 1 to 3 were given out before: none is given out twice
    assert!(matches!(refused.answer, Some(Ok(ChannelNo(3)))), "{:?}", refused.answer);
    assert!(matches!(another.answer, Some(Ok(ChannelNo(4)))), "{:?}", another.answer);
    let [applied, ahead] = stage.both();
    assert_eq!(applied, ahead);
    assert_eq!(names(&stage.events), Vec::<String>::new());
}

#[test]
fn a_refusal_in_the_same_commit_as_what_it_rests_on_is_taken_back_when_that_fails() {
    let mut stage = Stage::new();
    let _first = stage.begin(create(stage.catalog.clone(), "home", 10));
    let mut second = stage.begin(create(stage.catalog.clone(), "home", 10));
    stage.worker.fail(2);
    assert!(!stage.poll(&mut second), "it runs again, and waits for a commit of its own");
    stage.commit(1);
    assert!(stage.poll(&mut second));
    assert!(matches!(second.answer, Some(Ok(_))));
}

#[test]
fn an_answer_without_changes_waits_for_what_it_has_seen() {
    let mut stage = Stage::new();
    let no = stage.done(create(stage.catalog.clone(), "home", 10)).expect("a map");
    let _first = stage.begin(rename(stage.catalog.clone(), no, "away"));
    let mut same = stage.begin(rename(stage.catalog.clone(), no, "away"));
    assert!(!stage.poll(&mut same));
    stage.worker.fail(1);
    stage.commit(1);
    assert!(!stage.poll(&mut same), "the map is not away after all, so it is renamed now");
    stage.commit(1);
    assert!(stage.poll(&mut same));
    assert!(matches!(same.answer, Some(Ok(()))));
    assert!(stage.catalog.find(ChannelKind::Map, "away").is_some());
    let settled = stage.begin(rename(stage.catalog.clone(), no, "away"));
    assert!(matches!(settled.answer, Some(Ok(()))), "nothing is under way, so nothing is waited for");
    assert_eq!(stage.worker.waiting(), 0);
}

#[test]
fn side_effects_begin_when_a_change_is_applied_and_once() {
    let mut stage = Stage::new();
    let no = stage.done(create(stage.catalog.clone(), "home", 10)).expect("a map");
    stage.done(create_webhook(stage.catalog.clone(), no, uuid(7).into())).expect("a webhook");
    assert_eq!(names(&stage.events), ["webhook made"]);
    stage.done(rename(stage.catalog.clone(), no, "away")).expect("a name");
    assert_eq!(names(&stage.events), ["home is away"]);
    let revocations = stage.catalog.revocations();
    let principal = stage.catalog.principal("tok_1", 0).expect("a token");
    let mut deletion = stage.begin(delete(stage.catalog.clone(), no));
    assert_eq!(names(&stage.events), Vec::<String>::new());
    assert!(stage.catalog.holds(&principal, 0));
    let changes = stage.commit(1);
    assert!(stage.poll(&mut deletion));
    assert_eq!(names(&stage.events), ["away removed", "tok_1 revoked", "webhook removed"]);
    assert!(!stage.catalog.holds(&principal, 0) && stage.catalog.principal("tok_1", 0).is_none());
    assert_eq!(stage.catalog.revocations(), revocations + 1);
    assert_eq!(stage.catalog.count_channels(), 0);
    // as when a worker applies a change again that took effect before it was durable
    stage.catalog.apply(&changes);
    assert_eq!(names(&stage.events), Vec::<String>::new());
    assert_eq!(stage.catalog.revocations(), revocations + 1);
}

#[test]
fn a_side_effect_that_panics_keeps_nobody_from_the_answer() {
    let (journal, mut worker) = StandIn::new(&LIMITS, Arc::default());
    let catalog = Catalog::open(journal, Arc::default(), TokenHash::of("admin")).expect("documents");
    catalog.set_sink(Box::new(|_| panic!("a sink that panics")));
    let webhook = record::delete_token(&"tok_1".into());
    catalog.apply(&[record::put_token(&token("tok_1", ChannelNo(1))).expect("a document"), webhook]);
    assert_eq!((catalog.tokens(None).len(), catalog.revocations()), (0, 1));
    assert_eq!(worker.waiting(), 0);
}

#[test]
fn a_document_that_cannot_be_read_is_left_out_and_those_beside_it_are_applied() {
    let stage = Stage::new();
    let bad = [
        Change::stored(b"c\0\0\0\x09", b"{\"no\":").expect("a key"),
        Change::stored(b"c\0\0\x09", b"{}").expect("a key"),
        Change::stored(b"ttok_\xff", b"{}").expect("a key"),
        Change::put(Table::Tokens, "tok_2", &token("tok_1", ChannelNo(1))).expect("a document"),
        Change::put(Table::Channels, 8u32.to_be_bytes(), &map(ChannelNo(9), "home")).expect("a document"),
        Change::put(Table::Rows, "anything", &1).expect("a document"),
    ];
    let good = record::put_channel(&map(ChannelNo(3), "good")).expect("a document");
    stage.catalog.apply(&[&bad[..], &[good]].concat());
    assert_eq!(stage.catalog.read(shown), (vec![(3, "good".into())], Vec::new()));
}

#[test]
fn what_an_actor_wrote_while_its_webhook_was_being_deleted_goes_too() {
    let mut stage = Stage::new();
    let no = stage.done(create(stage.catalog.clone(), "home", 10)).expect("a map");
    let id = WebhookId::from(uuid(7));
    stage.done(create_webhook(stage.catalog.clone(), no, id.clone())).expect("a webhook");
    let row = |n: u8| DocumentChanges {
        changes: vec![Change::put(Table::Rows, [id.as_bytes(), &[n]].concat(), &n).expect("a document")],
        requires: Some((Table::Webhooks, id.as_bytes().to_vec())),
        ..DocumentChanges::default()
    };
    let mut before = stage.begin(stage.journal.change(row(1)).expect("it is queued"));
    stage.commit(1);
    let mut between = stage.begin(stage.journal.change(row(2)).expect("it is queued"));
    let mut deletion = stage.begin(delete(stage.catalog.clone(), no));
    let mut late = stage.begin(stage.journal.change(row(3)).expect("it is queued"));
    stage.commit(3);
    assert!(stage.poll(&mut before) && stage.poll(&mut between) && stage.poll(&mut deletion) && stage.poll(&mut late));
    assert!(matches!((between.answer, deletion.answer), (Some(Ok(())), Some(Ok(())))));
    assert!(matches!(late.answer, Some(Err(AppendError::Gone))));
    assert_eq!(stage.documents.clear(Table::Rows, b"").len(), 1, "the row that came between");
    assert_eq!(stage.catalog.orphans().expect("documents").len(), 1, "a start would find it");
    assert_eq!(stage.worker.waiting(), 1, "but its deletion is queued already");
    stage.commit(1);
    for table in [Table::Rows, Table::Endpoints, Table::Webhooks, Table::Tokens, Table::Channels] {
        assert!(stage.documents.clear(table, b"").is_empty(), "{table:?}");
    }
}

#[test]
fn a_start_finds_what_a_crash_has_left_of_deleted_webhooks_and_touches_nothing_else() {
    let kept = Webhook::new(
        uuid(1).into(),
        &map(ChannelNo(1), "home"),
        webhook::ApiFamily::Maps,
        &RetryPolicy::map_default(),
        0,
    );
    let put = |table, key: &[u8]| Change::put(table, key, &1).expect("a document");
    let of = |n: u32, own: &[u8]| [uuid(n).as_bytes(), own].concat();
    let documents = Documents::of(
        [
            record::put_webhook(&kept).expect("a document"),
            put(Table::Endpoints, &of(1, b"")),
            put(Table::Rows, &of(1, b"\0row")),
            put(Table::Endpoints, &of(2, b"")),
            put(Table::Rows, &of(2, b"\0row")),
            put(Table::Replays, &of(2, b"\0\0\0\x01")),
            put(Table::Rows, b"a key of some other kind, which is longer than that of a webhook"),
            put(Table::Rows, b"short"),
        ],
        1,
    );
    let stage = Stage::with(LIMITS, documents);
    let mut orphans: Vec<_> = stage.catalog.orphans().expect("documents").iter().map(|c| format!("{c:?}")).collect();
    orphans.sort();
    assert_eq!(orphans.len(), 3, "{orphans:?}");
    assert!(orphans.iter().all(|orphan| orphan.contains(&uuid(2)) && orphan.starts_with("delete")), "{orphans:?}");
}

#[test]
fn nothing_is_decided_again_for_ever() {
    let mut stage = Stage::new();
    let mut asked = stage.begin(create(stage.catalog.clone(), "home", 10));
    let mut conflicts = 0;
    while !stage.poll(&mut asked) {
        stage.worker.move_epoch_on();
        stage.commit(1);
        conflicts += 1;
        assert!(conflicts < 1_000, "it is still decided again");
    }
    assert!(matches!(asked.answer, Some(Err(ChangeError::Append(AppendError::Conflict)))), "{:?}", asked.answer);
}

#[test]
fn a_full_disk_lets_revocations_and_refusals_through() {
    let mut stage = Stage::new();
    stage.done(create(stage.catalog.clone(), "home", 10)).expect("a map");
    stage.worker.set_full(true);
    let refused = stage.begin(create(stage.catalog.clone(), "away", 10));
    assert!(matches!(refused.answer, Some(Err(ChangeError::Append(AppendError::StorageFull)))));
    let mut revocation = stage.begin(revoke(stage.catalog.clone(), "tok_1".into()));
    let mut again = stage.begin(revoke(stage.catalog.clone(), "tok_1".into()));
    assert_eq!(stage.worker.waiting(), 2);
    stage.commit(2);
    assert!(stage.poll(&mut revocation) && stage.poll(&mut again));
    assert!(matches!((revocation.answer, again.answer), (Some(Ok(true)), Some(Ok(false)))));
    // what could not be queued is seen by nobody
    stage.worker.set_full(false);
    let [applied, ahead] = stage.both();
    assert_eq!(applied, ahead);
}

#[test]
fn while_one_commit_hangs_others_are_decided_queued_and_read_and_nobody_waits_for_ever() {
    let limits = JournalLimits { answer_timeout: Duration::from_millis(20), ..LIMITS };
    let mut stage = Stage::with(limits, Documents::default());
    stage.done(create(stage.catalog.clone(), "home", 10)).expect("a map");
    let mut hangs = stage.begin(create(stage.catalog.clone(), "away", 10));
    assert!(stage.catalog.ahead.try_lock().is_some() && stage.catalog.applied.try_write().is_some());
    let mut revocation = stage.begin(revoke(stage.catalog.clone(), "tok_1".into()));
    assert_eq!(stage.worker.waiting(), 2);
    assert!(stage.catalog.principal("tok_1", 0).is_some());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let unknown = runtime.block_on(create(stage.catalog.clone(), "else", 10));
    assert!(matches!(unknown, Err(ChangeError::Append(AppendError::OutcomeUnknown))));
    // it comes all the same, once
    stage.commit(usize::MAX);
    assert!(stage.catalog.find(ChannelKind::Map, "else").is_some() && stage.catalog.token("tok_1").is_none());
    assert!(stage.poll(&mut hangs) && stage.poll(&mut revocation));
}

#[test]
fn a_change_whose_client_has_left_comes_to_be_all_the_same() {
    let mut stage = Stage::new();
    drop(stage.begin(create(stage.catalog.clone(), "home", 10)));
    stage.commit(1);
    assert!(stage.catalog.find(ChannelKind::Map, "home").is_some());
    let [applied, ahead] = stage.both();
    assert_eq!(applied, ahead);
}

#[test]
fn a_record_is_in_memory_once() {
    let mut stage = Stage::new();
    let no = stage.done(create(stage.catalog.clone(), "home", 10)).expect("a map");
    let ahead = stage.catalog.ahead.lock();
    let applied = stage.catalog.applied.read();
    let same = |a: Option<&Arc<Channel>>, b: Option<&Arc<Channel>>| Arc::ptr_eq(a.expect("one"), b.expect("one"));
    assert!(same(ahead.tables.channel(no), applied.channel(no)));
    assert!(Arc::ptr_eq(ahead.tables.token("tok_1").expect("one"), applied.token("tok_1").expect("one")));
}

#[test]
fn a_map_is_found_by_its_id_in_capitals() {
    let stage = Stage::new();
    stage.catalog.apply(&[record::put_channel(&map(ChannelNo(0xabc), "home")).expect("a document")]);
    assert!(stage.catalog.find(ChannelKind::Map, &uuid(0xabc)).is_some());
    assert!(stage.catalog.find(ChannelKind::Map, &uuid(0xabc).to_uppercase()).is_some());
    assert!(stage.catalog.find(ChannelKind::Organization, &uuid(0xabc)).is_none());
}
