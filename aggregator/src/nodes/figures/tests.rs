use galen_proto::v1::Label;

use super::*;

fn counter(name: &str, labels: &[(&str, &str)]) -> Measure {
    let label = |(name, value): &(&str, &str)| Label { name: (*name).into(), value: (*value).into() };
    let labels = labels.iter().map(label).collect();
    Measure { name: format!("galen_agent_{name}"), kind: MeasureKind::Counter.into(), labels, value: 3.0 }
}

fn gauge(name: &str, value: f64) -> Measure {
    Measure { kind: MeasureKind::Gauge.into(), value, ..counter(name, &[]) }
}

fn refused(figures: &Figures, refused: Refused) -> u64 {
    figures.refused.get(&refused).copied().unwrap_or_default()
}

fn fleet(figures: &mut Figures) -> String {
    prometheus::TextEncoder::new().encode_to_string(&figures.of_fleet()).unwrap()
}

fn nodes(figures: &mut Figures, shard: &str) -> String {
    let families = figures.of_nodes(shard.parse().unwrap()).unwrap();
    prometheus::TextEncoder::new().encode_to_string(&families).unwrap()
}

fn count(count: u64) -> Measure {
    Measure { value: count as f64, ..counter("a_total", &[]) }
}

#[tokio::test(start_paused = true)]
async fn a_node_is_shown_by_its_last_word_and_for_a_while_after_it_left() {
    let (node, mut figures) = ("web-1".into(), Figures::new(100));
    figures.report(&node, vec![counter("a_total", &[("z", "1"), ("b", "2")]), counter("b_total", &[])], 0);
    figures.report(&node, vec![counter("a_total", &[("b", "2"), ("z", "1")])], 0);
    let text = nodes(&mut figures, "0/1");
    let line = "galen_agent_a_total{node=\"web-1\",b=\"2\",z=\"1\"} 3\n";
    assert!(text.contains(line) && text.contains("# TYPE galen_agent_a_total counter"), "{text}");
    assert!(!text.contains("galen_agent_b_total"), "{text}");
    figures.gone("web-1");
    tokio::time::sleep(GONE_FOR / 2).await;
    assert!(nodes(&mut figures, "0/1").contains(line));
    tokio::time::sleep(GONE_FOR).await;
    assert_eq!((nodes(&mut figures, "0/1"), figures.kept()), (String::new(), 0));
    assert!(figures.refused.is_empty() && figures.names.is_empty() && figures.places.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_fleet_s_counter_has_what_was_added_and_never_goes_back() {
    let (web, db, mut figures) = ("web-1".into(), "db-1".into(), Figures::new(100));
    let shows = |figures: &mut Figures, sum: u64| {
        let text = fleet(figures);
        assert!(text.contains(&format!("galen_fleet_a_total {sum}\n")), "{text} is not {sum}");
    };
    // What they counted before they came here is not of now.
    figures.report(&web, vec![count(100)], 0);
    figures.report(&db, vec![count(7)], 0);
    shows(&mut figures, 0);
    figures.report(&web, vec![count(105)], 0);
    figures.report(&db, vec![count(8)], 0);
    shows(&mut figures, 6);
    // One starts anew, the other leaves for a moment.
    figures.report(&web, vec![count(2)], 0);
    figures.gone("db-1");
    shows(&mut figures, 8);
    figures.report(&db, vec![count(9)], 0);
    shows(&mut figures, 9);
    // A series that a known node had not told was zero.
    figures.report(&db, vec![count(9), Measure { value: 4.0, ..counter("b_total", &[]) }], 0);
    assert!(fleet(&mut figures).contains("galen_fleet_b_total 4\n"));
}

#[tokio::test(start_paused = true)]
async fn the_fleet_s_gauges_are_sum_and_maximum_of_those_who_are_there() {
    let mut figures = Figures::new(100);
    for (node, value) in [("a", 1.0), ("b", 5.0), ("c", 2.0)] {
        figures.report(&node.into(), vec![gauge("x_bytes", value)], 0);
    }
    let text = fleet(&mut figures);
    assert!(text.contains("galen_fleet_x_bytes 8\n") && text.contains("galen_fleet_x_bytes_max 5\n"), "{text}");
    assert!(!text.contains("node="), "{text}");
    figures.gone("b");
    let text = fleet(&mut figures);
    assert!(text.contains("galen_fleet_x_bytes 3\n") && text.contains("galen_fleet_x_bytes_max 2\n"), "{text}");
    figures.gone("a");
    figures.gone("c");
    assert!(!fleet(&mut figures).contains("_max"));
}

#[tokio::test(start_paused = true)]
async fn shards_have_each_node_once_and_an_answer_is_bounded() {
    let mut figures = Figures::new(1_000_000);
    for node in 0..300 {
        let many = (0..400).map(|n| counter(&format!("a{n}_total"), &[])).collect();
        figures.report(&format!("node-{node}").into(), many, 0);
    }
    let error = figures.of_nodes(Shard::default()).unwrap_err().to_string();
    assert!(error.contains("120000 series") && error.contains("shard=0/2"), "{error}");
    let lines = |text: String| text.lines().filter(|line| line.starts_with("galen_agent_a7_total")).count();
    let shards: Vec<_> = (0..5).map(|shard| lines(nodes(&mut figures, &format!("{shard}/5")))).collect();
    assert!(shards.iter().all(|nodes| (20..100).contains(nodes)), "{shards:?}");
    assert_eq!(shards.iter().sum::<usize>(), 300);
    for text in ["", "1", "1/1", "2/1", "-1/2", "0/0", "0/99999", "a/b"] {
        assert!(text.parse::<Shard>().is_err(), "{text}");
    }
}

#[test]
fn what_is_malformed_is_refused() {
    let wrong = [
        Measure { name: "galen_aggregator_log_segments".into(), ..counter("", &[]) },
        Measure { name: "up_total".into(), ..counter("", &[]) },
        counter("a\nb_total", &[]),
        counter("A_total", &[]),
        counter(&format!("{}_total", "a".repeat(MAX_NAME)), &[]),
        counter("a_events", &[]),
        Measure { kind: MeasureKind::Gauge.into(), ..counter("a_total", &[]) },
        Measure { kind: MeasureKind::Gauge.into(), ..counter("a_max", &[]) },
        Measure { kind: 0, ..counter("a_total", &[]) },
        Measure { kind: 77, ..counter("a_total", &[]) },
        Measure { value: f64::NAN, ..counter("a_total", &[]) },
        Measure { value: -1.0, ..counter("a_total", &[]) },
        counter("a_total", &[("node", "web-2")]),
        counter("a_total", &[("__name__", "a")]),
        counter("a_total", &[("a", "1"), ("a", "2")]),
        counter("a_total", &[("a", "two\nlines")]),
        counter("a_total", &[("a", "1\x1fb\x1f2")]),
        counter("a_total", &[("a", &"x".repeat(MAX_NAME + 1))]),
        counter("a_total", &["a", "b", "c", "d", "e", "f", "g", "h", "i"].map(|name| (name, ""))),
    ];
    let (count, mut figures) = (wrong.len() as u64, Figures::new(100));
    figures.report(&"web-1".into(), wrong.into(), 0);
    assert_eq!((refused(&figures, Refused::Malformed), figures.kept()), (count, 0));
    assert!(figures.names.is_empty());
}

#[test]
fn a_name_keeps_its_kind_and_labels_and_a_series_comes_once() {
    let mut figures = Figures::new(100);
    figures.report(&"web-1".into(), vec![counter("a_total", &[("b", "1")]), counter("a_total", &[("b", "1")])], 0);
    figures.report(&"web-2".into(), vec![counter("a_total", &[]), counter("a_total", &[("b", "1")])], 0);
    assert_eq!((refused(&figures, Refused::Twice), refused(&figures, Refused::Mismatch)), (1, 1));
    assert_eq!(figures.kept(), 2);
}

#[tokio::test(start_paused = true)]
async fn series_and_names_are_bounded_and_those_who_have_gone_make_room() {
    let mut figures = Figures::new(10);
    let many = |count: usize| (0..count).map(|n| counter(&format!("a{n}_total"), &[])).collect::<Vec<_>>();
    figures.report(&"web-1".into(), many(8), 0);
    figures.report(&"web-2".into(), many(8), 0);
    assert_eq!((refused(&figures, Refused::Full), figures.kept()), (6, 10));
    figures.gone("web-1");
    figures.report(&"web-2".into(), many(8), 0);
    assert_eq!((refused(&figures, Refused::Full), figures.kept()), (6, 8));
    let mut figures = Figures::new(100_000);
    figures.report(&"web-1".into(), many(MAX_OF_NODE + 5), 0);
    assert_eq!((refused(&figures, Refused::Full), figures.kept()), (5, MAX_OF_NODE as u64));
    for node in 0..10 {
        let names = (0..MAX_OF_NODE).map(|n| counter(&format!("n{node}_{n}_total"), &[])).collect();
        figures.report(&format!("bad-{node}").into(), names, 0);
    }
    assert!(figures.names.len() <= MAX_NAMES && figures.series.len() <= MAX_SERIES);
}
