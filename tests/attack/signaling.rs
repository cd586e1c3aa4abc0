//! Signaling attacks: invalid, excessive or missing messages, reconnects, and chat floods.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::guest::{End, Guest};
use crate::{Tally, Target};

/// Time limit for the server to refuse a message or close: normally, and on slow machines.
const REPLY: Duration = Duration::from_millis(250);
const SLOW_REPLY: Duration = Duration::from_secs(2);

/// Time limit for all rejoined participants to receive an offer.
const OFFERED: Duration = Duration::from_secs(5);

impl Target<'_> {
    /// Time limit for the server to close.
    pub fn reply(&self) -> Duration {
        if self.is_strict { REPLY } else { SLOW_REPLY }
    }

    /// Joins, sends messages and returns how the server closes.
    fn closed_after(&self, tally: &mut Tally, messages: &[String]) -> End {
        let mut guest = Guest::join(self.process, "words");
        for message in messages {
            tally.sent += u64::from(guest.say(message));
        }
        let at = Instant::now();
        let end = guest.end();
        assert!(at.elapsed() < self.reply(), "{:?} for {}", at.elapsed(), messages[0]);
        tally.answered += end.errors.len() as u64;
        end
    }

    fn repeat(&self, mut act: impl FnMut(&mut Tally)) -> Tally {
        let (begin, mut tally) = (Instant::now(), Tally::default());
        while begin.elapsed() < self.time {
            act(&mut tally);
        }
        tally
    }
}

/// S1
pub fn bad_json(target: &Target) -> Tally {
    let depth = "[".repeat(50_000);
    let objects = r#"{"event":"#.repeat(5_000);
    let texts = [
        "",
        "nonsense",
        "[]",
        "{}",
        r#"{"event":7}"#,
        r#"{"event":"answer","data":7}"#,
        r#"{"event":"answer","data":"{"}"#,
        r#"{"event":"chat"}"#,
        r#"{"event":"view","views":[{"mid":7}]}"#,
        r#"{"event":"publish","kind":"smell"}"#,
        &depth,
        &objects,
    ];
    target.repeat(|tally| {
        let mut messages: Vec<String> = texts.iter().map(ToString::to_string).collect();
        messages.rotate_left((tally.sent / 12 % 12) as usize);
        let end = target.closed_after(tally, &messages);
        assert_eq!((end.code, end.reason.as_str()), (1008, "bad-message"), "{end:?}");
        // The server tolerates ten.
        assert_eq!(end.errors, ["bad-message"; 11]);
    })
}

/// Builds an answer to an offer by text replacement.
pub fn answer(offer: &str) -> String {
    let answer = offer.replace("a=setup:actpass", "a=setup:active").replace("a=sendonly", "a=inactive");
    let answer = answer.replace("a=recvonly", "a=sendonly");
    answer
        .split_inclusive('\n')
        .filter(|line| !line.starts_with("a=candidate") && !line.starts_with("a=ice-lite"))
        .collect()
}

pub fn description(kind: &str, sdp: &str) -> String {
    json!({"type": kind, "sdp": sdp}).to_string()
}

/// S2
pub fn wrong_answers(target: &Target) -> Tally {
    /// Returns the answer with its m-lines changed.
    fn lines(answer: &str, change: impl FnOnce(Vec<String>) -> Vec<String>) -> String {
        let mut sections = answer.split("\r\nm=").map(str::to_owned).collect::<Vec<_>>();
        let rest = sections.split_off(1);
        sections.extend(change(rest));
        sections.join("\r\nm=")
    }
    type Change = fn(&str) -> String;
    let changes: [(&str, Change); 6] = [
        ("fewer m-lines", |answer| lines(answer, |all| all[..1].to_vec())),
        ("more", |answer| lines(answer, |all| [&all[..], &all[..1]].concat())),
        ("swapped", |answer| lines(answer, |all| all.into_iter().rev().collect())),
        ("renumbered", |answer| answer.replace("a=mid:", "a=mid:x")),
        ("none", |_| "v=0\r\n".to_owned()),
        ("no SDP", |_| "hello".to_owned()),
    ];
    target.repeat(|tally| {
        for (what, change) in changes {
            let mut guest = Guest::join(target.process, "words");
            let answer = change(&answer(&guest.offer()));
            guest.say_data("answer", &description("answer", &answer));
            let (at, end) = (Instant::now(), guest.end());
            assert_eq!((end.code, end.reason.as_str()), (1008, "bad-answer"), "{what}: {end:?}");
            assert!(at.elapsed() < target.reply(), "{what}: {:?}", at.elapsed());
        }
        let mut twice = Guest::join(target.process, "words");
        let good = description("answer", &answer(&twice.offer()));
        twice.say_data("answer", &good);
        twice.say("{}");
        assert_eq!(twice.wait_for("error")["code"], "bad-message", "the first one is good");
        twice.say_data("answer", &good);
        let end = twice.end();
        assert_eq!((end.code, end.reason.as_str()), (1008, "unexpected-answer"), "{end:?}");
        // The protocol has no provisional answers: an error, and the offer remains outstanding.
        let mut early = Guest::join(target.process, "words");
        let offer = early.offer();
        early.say_data("answer", &description("pranswer", &offer));
        assert_eq!(early.wait_for("error")["code"], "bad-message");
        tally.sent += changes.len() as u64 + 2;
        tally.answered += changes.len() as u64 + 2;
    })
}

/// S3
pub fn sdp_bombs(target: &Target) -> Tally {
    target.repeat(|tally| {
        let mut offer = Guest::join(target.process, "words").offer();
        offer = answer(&offer);
        let bombs = [
            format!("{offer}{}", "a=x\r\n".repeat(10_000)),
            format!("{offer}{}", "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n".repeat(100)),
            format!("{offer}{}", "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n".repeat(200)),
            format!("{offer}a=fmtp:96 {}\r\n", "x=y;".repeat(10_000)),
            format!("{offer}a=x:{}\r\n", "y".repeat(55_000)),
        ];
        for bomb in &bombs {
            let mut guest = Guest::join(target.process, "words");
            guest.offer();
            guest.say_data("answer", &description("answer", bomb));
            let (at, end) = (Instant::now(), guest.end());
            assert!(matches!(end.code, 1008 | 1009), "{end:?} for {:?}", &bomb[bomb.len() - 60..]);
            assert!(at.elapsed() < target.reply(), "{:?}", at.elapsed());
            tally.sent += 1;
            tally.answered += 1;
        }
    })
}

/// S4
pub fn candidates(target: &Target) -> Tally {
    let third = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    third.set_read_timeout(Some(target.time)).expect("above zero");
    let port = third.local_addr().expect("bound").port();
    let mut guest = Guest::join(target.process, "words");
    let offer = guest.offer();
    let hosts = ["127.0.0.1", "third.example", "a2b7.local", "255.255.255.255", "224.0.0.1", "0.0.0.0", "::1", ""];
    let lines = hosts.map(|host| format!("candidate:1 1 udp 2122260223 {host} {port} typ host"));
    let mut sent = 0;
    for line in lines.iter().chain(&["candidate:1 1 udp 1 127.0.0.1 0 typ host".to_owned(), "nonsense".to_owned()]) {
        guest.say_data("candidate", &json!({"candidate": line, "sdpMid": "0"}).to_string());
        sent += 1;
    }
    guest.say_data("answer", &description("answer", &(answer(&offer) + &format!("a={}\r\n", lines[0]))));
    assert!(third.recv(&mut [0; 2_000]).is_err(), "the server sent a datagram to a third party");
    guest.say("{}");
    assert_eq!(guest.wait_for("error")["code"], "bad-message", "the participant is still connected");
    Tally { sent, answered: 0 }
}

fn chat(bytes: usize) -> String {
    json!({"event": "chat", "data": "x".repeat(bytes)}).to_string()
}

/// S5
pub fn message_floods(target: &Target) -> Tally {
    let view = r#"{"event":"view","views":[{"mid":"0","width":640,"height":360}]}"#;
    let candidate = r#"{"event":"candidate","data":"{}"}"#;
    let unknown = r#"{"event":"rename","name":"x"}"#;
    let empty = r#"{"event":"chat","data":" "}"#;
    let (long, large) = (chat(5_000), chat(60_000));
    // Few enough chat messages that the limit of frames is not reached first.
    let floods = [
        (view, 1_000, "too-fast"),
        (candidate, 1_000, "too-fast"),
        (unknown, 1_000, "too-fast"),
        (empty, 60, "chat-too-fast"),
        (&long, 60, "chat-too-fast"),
        (&large, 60, "too-fast"),
    ];
    target.repeat(|tally| {
        for (message, count, code) in floods {
            let end = target.closed_after(tally, &vec![message.to_owned(); count]);
            assert_eq!((end.code, end.reason.as_str()), (1008, code), "{end:?}");
        }
    })
}

/// S7
pub fn drop_and_rejoin(target: &Target) -> Tally {
    let people = if target.is_strict { 500 } else { 60 };
    let join = |index: usize| Guest::join(target.process, &format!("many{}", index / 20));
    let mut guests: Vec<Guest> = (0..people).map(join).collect();
    let secrets: Vec<Value> = guests.iter_mut().map(|guest| guest.wait_for("welcome")["resume"].clone()).collect();
    let ids: Vec<String> = (0..people / 20)
        .map(|room| {
            let id = Guest::join(target.process, &format!("many{room}")).wait_for("welcome")["participants"].clone();
            id.as_array().expect("a list").iter().map(|one| one["id"].as_str().expect("text")).collect()
        })
        .collect();
    assert!(ids.iter().all(|ids| !ids.is_empty()));
    drop(guests);
    let begin = Instant::now();
    let mut guests: Vec<Guest> = (0..people)
        .map(|index| {
            let resume = secrets[index].as_str().expect("text");
            Guest::join(target.process, &format!("many{}&resume={resume}", index / 20))
        })
        .collect();
    let came = begin.elapsed();
    for guest in &mut guests {
        guest.offer();
    }
    let offered = begin.elapsed();
    assert!(offered < OFFERED, "{people} participants rejoined in {came:?} and received offers after {offered:?}");
    // No former connections remain besides the rejoined participants.
    for room in 0..people / 20 {
        let mut last = Guest::join(target.process, &format!("many{room}"));
        let there = last.wait_for("welcome")["participants"].as_array().expect("a list").len();
        assert_eq!(there, 20, "in room {room}");
    }
    Tally { sent: people as u64, answered: people as u64 }
}

/// C1, C3, C4
pub fn chat_flood(target: &Target) -> Tally {
    const SCRIPT: &str = "<script>alert(1)</script>\u{1b}[31m\n\u{0}";
    let name = "%3Cb%3EMallory%0A%1B%5B31m%00";
    let mut reader = Guest::join(target.process, "chat&name=Ann");
    let mut writer = Guest::join(target.process, "chat&name=Bob");
    let mut stranger = Guest::join(target.process, "elsewhere");
    let (mut lines, mut refused) = (0, 0);
    let mut tally = target.repeat(|tally| {
        let mut mallory = Guest::join(target.process, &format!("chat&name={name}"));
        for _ in 0..60 {
            tally.sent += u64::from(mallory.say_data("chat", SCRIPT));
        }
        writer.say_data("chat", &format!("line {lines}"));
        lines += 1;
        let end = mallory.end();
        assert_eq!((end.code, end.reason.as_str()), (1008, "chat-too-fast"), "{end:?}");
        refused += end.errors.len() as u64;
        // A message from another participant is delivered as if there were no flood.
        loop {
            let chat = reader.wait_for("chat");
            if chat["message"] == format!("line {}", lines - 1) {
                break;
            }
            assert_eq!(chat["message"], SCRIPT, "the message is not changed");
        }
        std::thread::sleep(Duration::from_millis(100));
    });
    tally.answered = refused;
    let heard = stranger.messages(Duration::from_millis(100));
    assert!(heard.iter().all(|message| message["event"] != "chat" && message["event"] != "joined"), "{heard:?}");
    tally
}
