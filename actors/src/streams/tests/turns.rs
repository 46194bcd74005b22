//! Turns: who is far behind on many streams waits for itself.

use super::*;
use crate::compute::Tenant;
use crate::compute::tests::held;

const GREEDY: usize = 50;

fn caller(id: &str) -> Arc<Principal> {
    Arc::new(Principal { id: id.into(), reach: Reach::Admin, expires_ms: None })
}

#[actix::test]
async fn a_page_of_the_log_is_read_in_its_tenants_turn_however_many_another_one_waits_for() {
    let world = World::start();
    let channel = world.channel(1);
    let published = world.publish(&channel, 10).await.unwrap();
    let readers = world.streams.handles.readers.clone();
    let behind = async |principal: Arc<Principal>| {
        let opening = world.opening(StreamTarget::Channel(channel.clone()), principal, Some(EventId::ZERO));
        Client::read(Box::pin(sse::stream(&world.streams, opening).await.unwrap())).await
    };
    let (release, holding) = held(&readers).await;
    let mut greedy = Vec::new();
    for _ in 0..GREEDY {
        greedy.push(behind(caller("jwt:greedy")).await);
    }
    let mut modest = behind(caller("jwt:modest")).await;
    until("all of them wait for the log", async || readers.waiting() == GREEDY + 1).await;
    // its own turn behind that page
    let next = actix_rt::spawn({
        let readers = readers.clone();
        async move { readers.clone().run(Tenant::of(&caller("jwt:modest")), move || readers.waiting()).await }
    });
    until("it waits", async || readers.waiting() == GREEDY + 2).await;
    drop(release);
    let waiting = next.await.unwrap().unwrap();
    assert!(waiting >= GREEDY - 3, "the modest one was read before {waiting} of the greedy one's {GREEDY} pages");
    assert_eq!(modest.ids(1).await, [published]);
    for client in &mut greedy {
        assert_eq!(client.ids(1).await, [published]);
    }
    holding.await.unwrap();
}
