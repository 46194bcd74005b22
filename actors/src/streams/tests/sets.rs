//! Streams of several channels, which share a ring of the events of all channels.

use super::*;

#[actix::test]
async fn readers_of_overlapping_sets_get_each_their_own_events_in_one_order() {
    let world = World::start();
    let channels: Vec<_> = (1..=4).map(|no| world.channel(no)).collect();
    let of_kind = StreamTarget::Several(Arc::new(ChannelSet::of(&[Selector::Kind(ChannelKind::Map)])));
    let mut low = world.follow_some(&channels[..2]).await;
    let mut same = world.follow_some(&[channels[1].clone(), channels[0].clone()]).await;
    let mut high = world.follow_some(&channels[1..3]).await;
    let mut maps = Client::read(world.open(of_kind, admin()).await.unwrap()).await;
    let mut one = world.follow(&channels[1]).await;
    let mut published = Vec::new();
    for n in 0..200_usize {
        let no = (n * 7 + n / 3) % 4;
        published.push((no, world.publish(&channels[no], 10).await.unwrap()));
    }
    let of = |wanted: &[usize]| -> Vec<EventId> {
        published.iter().filter(|(no, _)| wanted.contains(no)).map(|(_, id)| *id).collect()
    };
    for (client, wanted) in [
        (&mut low, &[0, 1][..]),
        (&mut same, &[0, 1]),
        (&mut high, &[1, 2]),
        (&mut maps, &[0, 1, 2, 3]),
        (&mut one, &[1]),
    ] {
        let wanted = of(wanted);
        assert_eq!(client.ids(wanted.len()).await, wanted);
    }
    // a map that is made later
    let late = world.channel(5);
    let of_late = world.publish(&late, 10).await.unwrap();
    assert_eq!(maps.ids(1).await, [of_late]);
    let last = world.publish(&channels[0], 10).await.unwrap();
    assert_eq!(low.ids(1).await, [last]);
}

#[actix::test]
async fn a_set_goes_on_from_the_log_when_the_ring_of_all_channels_has_missed_something() {
    let world = World::start();
    let (read, other) = (world.channel(1), world.channel(2));
    let mut client = world.follow_some(&[read.clone(), world.channel(3)]).await;
    for point in [Point::ShardBatch, Point::ChannelBatch, Point::RegistryMessage] {
        for _ in 0..3 {
            world.panic_once(point);
            let mut published = Vec::new();
            for _ in 0..3 {
                published.push(world.publish(&read, 10).await.unwrap());
                world.publish(&other, 10).await.unwrap();
            }
            if point == Point::RegistryMessage {
                world.follow(&other).await.leave().await;
                ShardCore::here(&world.streams).forget_idle(other.no());
            }
            assert_eq!(client.ids(3).await, published, "{point:?}");
        }
    }
    // dropped half way, and noticed by the next batch only, which the set does not want
    world.faults.set(Point::Announce, Fault::errno(libc::EIO).times(1));
    let dropped = world.publish(&read, 10).await.unwrap();
    world.publish(&other, 10).await.unwrap();
    assert_eq!(client.ids(1).await, [dropped]);
}

#[actix::test]
async fn a_set_lives_as_long_as_one_of_its_channels_and_is_let_go_without_readers() {
    let world = World::start();
    let (first, second) = (world.channel(1), world.channel(2));
    let mut client = world.follow_some(&[first.clone(), second.clone()]).await;
    let before = world.publish(&first, 10).await.unwrap();
    assert_eq!(client.ids(1).await, [before]);
    world.delete(&first);
    world.streams.close_channel(first.no());
    let after = world.publish(&second, 10).await.unwrap();
    assert_eq!(client.ids(1).await, [after]);
    world.delete(&second);
    world.streams.close_channel(second.no());
    assert_eq!(client.next().await, None, "nothing is left to be read");
    let _others = world.budget.hold(Part::Bodies, MEMORY_BYTES);
    until("all local channels are left", async || ShardCore::here(&world.streams).channels_here() == 0).await;
    let frames = || world.budget.used_bytes_by(Part::Frames);
    until("no frame is kept", async || frames() == 0).await;
}

#[actix::test]
async fn a_late_reader_of_a_set_reads_the_log_and_then_the_ring() {
    let world = World::start();
    let channels: Vec<_> = (1..=3).map(|no| world.channel(no)).collect();
    let late = world.open(several(&channels[..2]), admin()).await.unwrap();
    let mut published = Vec::new();
    let _others = world.budget.hold(Part::Bodies, MEMORY_BYTES);
    for n in 0..600 {
        let id = world.publish(&channels[n % 3], 500).await.unwrap();
        if n % 3 < 2 {
            published.push(id);
        }
    }
    let mut late = Client::read(late).await;
    assert_eq!(late.ids(400).await, published);
}
