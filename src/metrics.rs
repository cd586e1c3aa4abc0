//! The metrics: one table of names, help texts, types and values, written in the text format of Prometheus.
//!
//! Counters are plain integers elsewhere, read when the metrics are scraped. No label names a room, a participant or an
//! address: their number would grow with the clients. To add a metric, add a row to `table`; a counter is a field of
//! `stats::Stats`.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::drop_reason::DropReason;
use crate::histogram::Histogram;
use crate::stats::{JOIN_OUTCOMES, Stats};
use crate::web::http::Refusal;

/// Names of `media::publish::keyframe::Reason`, in the order of its values.
const KEYFRAME_REASONS: [&str; 4] = ["join", "switch", "loss", "pli"];

/// Classes of HTTP responses, by the first digit of their status.
const RESPONSE_CLASSES: [&str; 6] = ["0xx", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// Values that are computed at each scrape, in addition to the counters.
#[derive(Debug, Clone, Copy)]
pub struct Gauges {
    /// Rooms.
    pub rooms: usize,
    /// Participants, including those that are disconnected and may return.
    pub participants: usize,
    /// TCP connections.
    pub connections: usize,
    /// Addresses that a peer has validated.
    pub addresses: usize,
    /// Pending deadlines.
    pub timers: usize,
    /// The load of the event loop, averaged over a second.
    pub load: f64,
    /// The shedding stage: 0 sheds nothing.
    pub shed_stage: usize,
    /// Rooms whose video is reduced.
    pub rooms_shed: usize,
    /// Whether the server is shutting down.
    pub is_draining: bool,
    /// Time since the start of the server.
    pub uptime: Duration,
}

/// Writes all metrics.
pub fn text(stats: &Stats, gauges: &Gauges) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Table(table(stats, gauges))));
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry).expect("writing to a string cannot fail");
    text
}

/// One metric.
#[derive(Debug)]
struct Row {
    /// Without the `_total` of counters, which the encoder adds.
    name: &'static str,
    help: &'static str,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Counter(u64),
    /// A counter for each value of one label.
    Counters(&'static str, Vec<(&'static str, u64)>),
    Gauge(f64),
    /// A gauge for each value of one label.
    Gauges(&'static str, Vec<(&'static str, f64)>),
    Histogram(Histogram),
}

/// Returns the table. `Stats` is destructured in full, so that a counter without a row is a compiler error.
fn table(stats: &Stats, gauges: &Gauges) -> Vec<Row> {
    use Value::{Counter, Histogram};
    let Stats {
        datagrams_in,
        datagrams_unknown,
        datagrams_excess,
        datagrams_out,
        datagrams_unsent,
        bytes_in,
        bytes_out,
        packets_in,
        packets_forwarded,
        packets_paced,
        packets_due,
        drops,
        packets_not_loudest,
        packets_oversized,
        configurations_dropped,
        packets_resent,
        packets_not_resent,
        packets_padding,
        keyframe_requests,
        turns: _, // the count of `aq_turn_seconds`, except for the current turn
        turn,
        forward_delay,
        packets_recorded: _, // only used to update `forward_delay`
        peer_timeouts,
        offers,
        answers,
        seatings,
        exchanges,
        chat_messages,
        peers_failed,
        messages_refused,
        stages,
        conns_refused,
        joins,
        responses,
        requests_refused,
        bodies_in,
        body_bytes_in,
    } = stats.clone();
    let gauge = |value: usize| Value::Gauge(value as f64);
    let row = |name, help, value| Row { name, help, value };
    let refusals = Refusal::ALL.map(Refusal::name);
    vec![
        row("aq_build_info", "The version of the server.", version()),
        row("aq_uptime_seconds", "Time since the start.", Value::Gauge(gauges.uptime.as_secs_f64())),
        row("aq_draining", "1 while the server is shutting down.", gauge(usize::from(gauges.is_draining))),
        // Rooms, participants and connections.
        row("aq_rooms", "Rooms.", gauge(gauges.rooms)),
        row(
            "aq_participants",
            "Participants, including those that are disconnected and may return.",
            gauge(gauges.participants),
        ),
        row("aq_connections", "TCP connections.", gauge(gauges.connections)),
        row("aq_joins", "Attempts to join, by outcome.", by("outcome", JOIN_OUTCOMES, joins)),
        row("aq_connections_refused", "TCP connections and joins refused.", Counter(conns_refused)),
        // The load of the event loop.
        row(
            "aq_load_ratio",
            "Share of time that the event loop was busy, averaged over a second.",
            Value::Gauge(gauges.load),
        ),
        row("aq_turn_seconds", "How long the event loop was awake in a turn.", Histogram(turn)),
        row(
            "aq_shed_stage",
            "What is shed under load: 0 nothing, 1 new participants, 2 video of some rooms too.",
            gauge(gauges.shed_stage),
        ),
        row("aq_rooms_shed", "Rooms whose video is reduced under load.", gauge(gauges.rooms_shed)),
        row("aq_shed_stage_changes", "Steps that reduced or restored the video of rooms.", Counter(stages)),
        row("aq_timers", "Pending deadlines.", gauge(gauges.timers)),
        // Media.
        row(
            "aq_forward_delay_seconds",
            "Time from the receipt of packets to the end of the turn that sent them: one observation for each turn that \
             forwards packets as they arrive, and one for the oldest packet of each release by a pacer.",
            Histogram(forward_delay),
        ),
        row("aq_received_bytes", "Bytes of UDP payload received.", Counter(bytes_in)),
        row("aq_sent_bytes", "Bytes of UDP payload queued for sending.", Counter(bytes_out)),
        row("aq_received_datagrams", "UDP datagrams received.", Counter(datagrams_in)),
        row("aq_sent_datagrams", "UDP datagrams queued for sending.", Counter(datagrams_out)),
        row(
            "aq_datagrams_dropped",
            "UDP datagrams dropped, by reason.",
            by("reason", ["excess", "unknown", "unsent"], [datagrams_excess, datagrams_unknown, datagrams_unsent]),
        ),
        row(
            "aq_received_packets",
            "RTP packets received from publishers and admitted for forwarding.",
            Counter(packets_in),
        ),
        row("aq_forwarded_packets", "RTP packets sent to subscribers for the first time.", Counter(packets_forwarded)),
        row("aq_paced_packets", "Forwarded RTP packets that a pacer held back first.", Counter(packets_paced)),
        row(
            "aq_packets_dropped",
            "RTP packets not forwarded, counted once for each participant that did not get them, by reason.",
            by("reason", DropReason::ALL.map(DropReason::name), DropReason::ALL.map(|reason| drops.get(reason))),
        ),
        row(
            "aq_packets_due",
            "RTP packets received x other participants of the room: the sum of those forwarded, dropped, and still held \
             by a pacer.",
            Counter(packets_due),
        ),
        row(
            "aq_quiet_packets",
            "RTP packets of microphones that are not among the loudest or that a moderator has muted.",
            Counter(packets_not_loudest),
        ),
        row("aq_oversized_packets", "RTP packets that are too large to forward.", Counter(packets_oversized)),
        row("aq_retransmitted_packets", "RTP packets retransmitted after a NACK.", Counter(packets_resent)),
        row(
            "aq_retransmissions_refused",
            "RTP packets requested by a NACK and not retransmitted.",
            Counter(packets_not_resent),
        ),
        row("aq_padding_packets", "RTP packets sent again as padding, to probe a path.", Counter(packets_padding)),
        row(
            "aq_keyframe_requests",
            "Keyframe requests sent to publishers, by reason.",
            by("reason", KEYFRAME_REASONS, keyframe_requests),
        ),
        row(
            "aq_configurations_dropped",
            "Parts of codec configurations that were not kept for late subscribers.",
            Counter(configurations_dropped),
        ),
        row("aq_validated_addresses", "Addresses from which peers receive media.", gauge(gauges.addresses)),
        row("aq_peer_timeouts", "Timers of peers that were due.", Counter(peer_timeouts)),
        // Signaling.
        row("aq_offers", "SDP offers sent.", Counter(offers)),
        row("aq_answers", "SDP answers accepted or rejected.", Counter(answers)),
        row("aq_seatings", "Recalculations of a room's seats.", Counter(seatings)),
        row("aq_track_exchanges", "m-lines that were given another track without an offer.", Counter(exchanges)),
        row("aq_chat_messages", "Chat messages accepted.", Counter(chat_messages)),
        row(
            "aq_protocol_errors",
            "Messages refused and peers closed because of a protocol error, by kind.",
            by("kind", ["message", "peer"], [messages_refused, peers_failed]),
        ),
        // HTTP.
        row("aq_http_responses", "HTTP responses, by class of status.", by("class", RESPONSE_CLASSES, responses)),
        row(
            "aq_http_requests_refused",
            "HTTP requests refused before a route was found, or while their body was read, by reason.",
            by("reason", refusals, requests_refused),
        ),
        row("aq_http_bodies", "Bodies of HTTP requests received.", Counter(bodies_in)),
        row("aq_http_body_bytes", "Bytes of bodies of HTTP requests received.", Counter(body_bytes_in)),
    ]
}

/// A counter for each value of one label.
fn by<const N: usize>(label: &'static str, values: [&'static str; N], counts: [u64; N]) -> Value {
    Value::Counters(label, values.into_iter().zip(counts).collect())
}

fn version() -> Value {
    Value::Gauges("version", vec![(env!("CARGO_PKG_VERSION"), 1.0)])
}

/// Adapts the rows to `Collector`.
#[derive(Debug)]
struct Table(Vec<Row>);

impl Collector for Table {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        for row in &self.0 {
            let kind = row.value.metric_type();
            row.value.encode(encoder.encode_descriptor(row.name, row.help, None, kind)?)?;
        }
        Ok(())
    }
}

impl EncodeMetric for Value {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        match self {
            Value::Counter(count) => ConstCounter::new(*count).encode(encoder),
            Value::Counters(label, counts) => counts.iter().try_for_each(|(value, count)| {
                ConstCounter::new(*count).encode(encoder.encode_family(&[(*label, *value)])?)
            }),
            Value::Gauge(value) => ConstGauge::new(*value).encode(encoder),
            Value::Gauges(label, gauges) => gauges.iter().try_for_each(|(value, gauge)| {
                ConstGauge::new(*gauge).encode(encoder.encode_family(&[(*label, *value)])?)
            }),
            Value::Histogram(histogram) => {
                let buckets: Vec<(f64, u64)> = histogram.buckets().collect();
                let sum = histogram.sum().as_secs_f64();
                encoder.encode_histogram::<NoLabelSet>(sum, histogram.count(), &buckets, None)
            }
        }
    }

    fn metric_type(&self) -> MetricType {
        match self {
            Value::Counter(_) | Value::Counters(..) => MetricType::Counter,
            Value::Gauge(_) | Value::Gauges(..) => MetricType::Gauge,
            Value::Histogram(_) => MetricType::Histogram,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const GAUGES: Gauges = Gauges {
        rooms: 2,
        participants: 5,
        connections: 6,
        addresses: 4,
        timers: 9,
        load: 0.25,
        shed_stage: 1,
        rooms_shed: 0,
        is_draining: false,
        uptime: Duration::from_millis(1_500),
    };

    #[test]
    fn counters_gauges_and_histograms_are_written_as_prometheus_reads_them() {
        let mut stats = Stats { packets_in: 7, packets_not_loudest: 3, ..Stats::default() };
        stats.drops.add(DropReason::NoSeat, 5);
        stats.count_join("room-full");
        stats.turn.observe(Duration::from_micros(60));
        stats.turn.observe(Duration::from_secs(2));
        let text = text(&stats, &GAUGES);
        for expected in [
            "# HELP aq_received_packets_total RTP packets received from publishers and admitted for forwarding.\n\
             # TYPE aq_received_packets_total counter\naq_received_packets_total 7\n",
            "# TYPE aq_packets_dropped_total counter\naq_packets_dropped_total{reason=\"unpublished\"} 0\n",
            "aq_packets_dropped_total{reason=\"no_seat\"} 5\n",
            "aq_quiet_packets_total 3\n",
            "aq_joins_total{outcome=\"room-full\"} 1\n",
            "aq_joins_total{outcome=\"joined\"} 0\n",
            "# TYPE aq_load_ratio gauge\naq_load_ratio 0.25\n",
            "# TYPE aq_rooms gauge\naq_rooms 2",
            "aq_uptime_seconds 1.5\n",
            "# TYPE aq_turn_seconds histogram\n",
            "aq_turn_seconds_bucket{le=\"5e-05\"} 0\n",
            "aq_turn_seconds_bucket{le=\"0.0001\"} 1\n",
            "aq_turn_seconds_bucket{le=\"1\"} 1\n",
            "aq_turn_seconds_bucket{le=\"+Inf\"} 2\n",
            "aq_turn_seconds_sum 2.00006\n",
            "aq_turn_seconds_count 2\n",
        ] {
            assert!(text.contains(expected), "{expected}\nis not in\n{text}");
        }
        assert!(text.lines().count() < 400, "scrapes stay short");
    }

    #[test]
    fn every_row_has_a_unique_name_and_a_help_text() {
        let rows = table(&Stats::default(), &GAUGES);
        let names: BTreeSet<_> = rows.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), rows.len());
        for row in &rows {
            assert!(row.name.starts_with("aq_") && !row.name.ends_with("_total"), "{}", row.name);
            assert!(row.help.ends_with('.'), "{}: {}", row.name, row.help);
        }
    }
}
