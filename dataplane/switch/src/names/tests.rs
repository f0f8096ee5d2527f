use super::*;

fn addr(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn at(seconds: u64) -> Instant {
    Instant::from_millis(seconds * 1_000)
}

fn known(names: &Names, last: u8, seconds: u64) -> Vec<&str> {
    names.of(addr(last), at(seconds)).iter().map(|name| &**name).collect()
}

#[test]
fn n18_each_address_of_a_name_has_its_own_time() {
    let mut names = Names::default();
    let (a, b) = ("a.example".into(), "b.example".into());
    names.learn(addr(1), &a, at(10));
    names.learn(addr(2), &a, at(20));
    names.learn(addr(1), &b, at(30));
    assert_eq!(known(&names, 1, 9), ["b.example", "a.example"]);
    assert_eq!(known(&names, 1, 10), ["b.example"]);
    assert_eq!(known(&names, 2, 19), ["a.example"]);
    assert_eq!(known(&names, 2, 20), [""; 0]);
    assert_eq!(known(&names, 3, 0), [""; 0]);
}

#[test]
fn n18_a_later_answer_prolongs_a_time_and_does_not_shorten_it() {
    let mut names = Names::default();
    let a = "a.example".into();
    for until in [10, 30, 20] {
        names.learn(addr(1), &a, at(until));
    }
    assert_eq!(known(&names, 1, 29), ["a.example"]);
    assert_eq!(known(&names, 1, 30), [""; 0]);
    assert_eq!(names.count(), NamesCount { held: 1, learned: 3, forgotten: 0, unreadable: 0 });
}

#[test]
fn n18_a_name_may_have_a_hundred_addresses_and_more() {
    let mut names = Names::default();
    let a = "a.example".into();
    for last in 0..=255 {
        names.learn(addr(last), &a, at(10));
    }
    assert!((0..=255).all(|last| known(&names, last, 9) == ["a.example"]));
}

#[test]
fn n18_room_is_bounded_and_what_ends_first_gives_way() {
    let mut names = Names::default();
    for number in 0..NAMES_MAX as u32 + 3 {
        let addr = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
        names.learn(addr, &"a.example".into(), at(100_000 - u64::from(number)));
    }
    assert_eq!((names.count().held, names.count().forgotten), (NAMES_MAX as u64, 3));
    assert_eq!(names.by_address.len(), NAMES_MAX);
    assert!(!names.of(IpAddr::from([10, 0, 0, 0]), at(0)).is_empty(), "the one that lives longest stays");
}

#[test]
fn n18_an_address_with_very_many_names_keeps_the_last_ones() {
    let mut names = Names::default();
    for number in 0..200 {
        names.learn(addr(1), &format!("n{number}.example").as_str().into(), at(1_000 + number));
    }
    assert_eq!(names.of(addr(1), at(0)).len(), NAMES_PER_ADDRESS_MAX);
    assert_eq!(&*names.of(addr(1), at(0))[0], "n199.example");
    assert_eq!((names.count().held, names.by_time.len()), (64, 64));
}

#[test]
fn n18_names_outlive_the_switch() {
    let mut before = Names::default();
    assert!(before.take_news().is_none());
    before.learn(addr(1), &"a.example".into(), at(10));
    before.learn(addr(2), &"a.example".into(), at(20));
    before.learn(addr(1), &"b.example".into(), at(30));
    let mut after = Names::default();
    after.restore(before.take_news().expect("something was learned"));
    assert!(before.take_news().is_none() && !after.has_news());
    assert_eq!(known(&after, 1, 9), ["b.example", "a.example"]);
    assert_eq!(known(&after, 1, 10), ["b.example"]);
    assert_eq!(known(&after, 2, 19), ["a.example"]);
}
