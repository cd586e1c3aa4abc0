//! Names typed by people: room names, which are compared, and participant names, which are only shown.
//!
//! Both are normalised to NFC (Unicode Standard Annex 15): `é` is the same text whether the keyboard sends one code
//! point or two. NFKC would go further and equate `m²` with `m2` and `①` with `1`. These look different, and rooms
//! whose names look different must not be equal: strangers would meet, and a token would admit to more rooms than
//! intended.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// Maximum length of a participant's name, in characters.
pub const NAME_CHARS: usize = 64;

/// Maximum length of a room's name, in characters.
pub const ROOM_CHARS: usize = 128;

/// Returns a room's name in the form in which it is compared, shown and logged, so that names that look alike are
/// equal. Control characters and default-ignorable characters are removed, and runs of white space become one space.
/// Returns `None` if nothing is left or the result has more than 128 characters.
///
/// Joiners and variation selectors are removed too: they only change how a neighbouring character is drawn, which must
/// not distinguish two rooms.
pub fn room_name(name: &str) -> Option<String> {
    let name = normalise(name, |c| !is_default_ignorable(c));
    (name.chars().any(is_visible) && name.chars().count() <= ROOM_CHARS).then_some(name)
}

/// Returns a participant's name in the form in which it is shown. Like [`room_name`], but truncated to 64 characters,
/// and joiners and variation selectors are kept: they combine letters or emoji and select their form. Returns `None` if
/// nothing is left.
pub fn participant_name(name: &str) -> Option<String> {
    let name = normalise(name, |c| !is_default_ignorable(c) || shapes_neighbours(c));
    let name: String = name.chars().take(NAME_CHARS).collect();
    // A joiner at either end has nothing to join.
    let name = name.trim_end().trim_matches(is_joiner).trim();
    name.chars().any(is_visible).then(|| name.to_owned())
}

fn normalise(name: &str, is_kept: impl Fn(char) -> bool) -> String {
    let spaced = name.chars().map(|c| if c.is_whitespace() { ' ' } else { c });
    // Invisible characters are removed before NFC: between a letter and its accent they would prevent composition.
    let visible: String = spaced.filter(|c| !c.is_control() && is_kept(*c)).nfc().collect();
    visible.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a character shows by itself. A blank pattern, a placeholder of an object, a stemless note, a character of
/// private use and a combining mark without a letter do not.
fn is_visible(c: char) -> bool {
    let is_blank = matches!(c, ' ' | '\u{2800}' | '\u{fffc}' | '\u{1d159}');
    let is_private = matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..='\u{10ffff}');
    !is_blank && !is_private && !is_combining_mark(c) && !is_default_ignorable(c)
}

fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}')
}

/// Joiners, variation selectors (Mongolian, general, and the ideographic ones that some Japanese names need), and the
/// tag characters that spell the flags of regions.
fn shapes_neighbours(c: char) -> bool {
    is_joiner(c)
        || matches!(c, '\u{180b}'..='\u{180f}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0020}'..='\u{e007f}' | '\u{e0100}'..='\u{e01ef}')
}

/// The property `Default_Ignorable_Code_Point` (`DerivedCoreProperties.txt`, Unicode 17). It is stable for assigned
/// characters, and unassigned ones in these ranges are reserved for it.
fn is_default_ignorable(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fff8}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_must_have_a_character_that_shows() {
        for blank in [
            "\u{2800}",
            "\u{fffc}",
            "\u{3164} \u{115f}\u{1160}\u{ffa0}",
            "\u{e0041}",
            "\u{e000}",
            "\u{301}",
            "\u{1d159}",
        ] {
            assert_eq!((participant_name(blank), room_name(blank)), (None, None), "{blank:?}");
        }
        for name in ["e\u{301}", "\u{2800}x", "\u{1f600}", "\u{915}\u{93f}"] {
            assert!(participant_name(name).is_some() && room_name(name).is_some(), "{name:?}");
        }
    }

    #[test]
    fn rooms_that_look_alike_are_equal() {
        for (name, others) in [
            // Composed, decomposed, and with an invisible character before the accent or inside the word.
            (
                "Café",
                &["Cafe\u{301}", "Cafe\u{ad}\u{301}", "Ca\u{ad}fé", "Ca\u{200b}f\u{e9}\u{feff}", " Caf\u{e9}\t"][..],
            ),
            ("한국", &["\u{1112}\u{1161}\u{11ab}\u{1100}\u{116e}\u{11a8}", "한\u{3164}국", "한\u{200d}국"]),
            ("Tiếng Việt", &["Tie\u{302}\u{301}ng Vie\u{323}\u{302}t", "Tiê\u{301}ng\u{a0} Vi\u{1eb9}\u{302}t"]),
            // Marks in either order; singleton decompositions.
            ("q\u{323}\u{307}", &["q\u{307}\u{323}"]),
            ("Å 10 Ω", &["\u{212b} 10 \u{2126}", "A\u{30a} 10 \u{2126}"]),
            ("❤ 1", &["❤\u{fe0f} 1", "❤\u{fe0e}\u{2003}1", "\u{202e}❤ 1\u{202c}", "❤ 1\u{e0061}"]),
            ("ab", &["a\u{34f}b", "a\u{61c}b", "a\u{2064}b", "a\u{206f}b", "a\u{7}b", "a\u{200c}b", "a\u{1d173}b"]),
        ] {
            for other in others.iter().chain([&name]) {
                assert_eq!(room_name(other).as_deref(), Some(name), "{}", other.escape_unicode());
            }
        }
    }

    #[test]
    fn rooms_that_look_different_are_not_equal() {
        for (one, other) in
            [("m²", "m2"), ("①", "1"), ("Ａ", "A"), ("ﬁ", "fi"), ("a", "A"), ("cafe", "café"), ("ab", "a b")]
        {
            assert_ne!(room_name(one), room_name(other), "{one} {other}");
            assert!(room_name(one).is_some() && room_name(other).is_some());
        }
    }

    #[test]
    fn room_names_are_neither_empty_nor_too_long() {
        for nothing in ["", " ", "\u{ad}", "\u{3164} \u{200d}", "\u{0}\u{7f}"] {
            assert_eq!(room_name(nothing), None, "{nothing:?}");
        }
        assert!(room_name(&"é".repeat(ROOM_CHARS)).is_some());
        assert!(room_name(&"e\u{301}\u{ad}".repeat(ROOM_CHARS)).is_some(), "the limit applies to the normalised name");
        assert_eq!(room_name(&"é".repeat(ROOM_CHARS + 1)), None);
    }

    #[test]
    fn participant_names_are_cleaned_not_escaped() {
        let long = "0123456789".repeat(7);
        for (given, shown) in [
            ("  Ann \t Lee\n", Some("Ann Lee")),
            ("<b>Ann</b>", Some("<b>Ann</b>")),
            ("\u{202e}nnA\u{7}", Some("nnA")),
            ("Zoe\u{308}", Some("Zoë")),
            ("A\u{ad}nn\u{3164}", Some("Ann")),
            (" \u{200b} ", None),
            ("", None),
            ("\u{3164}\u{115f}\u{2064}", None),
            ("\u{200d} \u{200c}", None),
            ("\u{fe0f} \u{e0061}", None),
            ("äöü😀", Some("äöü😀")),
            (&long, Some(&long[..NAME_CHARS])),
        ] {
            assert_eq!(participant_name(given).as_deref(), shown, "{given:?}");
        }
    }

    #[test]
    fn participant_names_keep_joiners_and_variation_selectors() {
        for name in [
            // A family, a heart in colour, the flag of Scotland.
            "👩\u{200d}👧 Zoë",
            "❤\u{fe0f} Ann",
            "🏴\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f}",
            // Sinhala and Devanagari conjuncts, Persian, a Japanese surname in its own form, Mongolian.
            "ශ\u{dca}\u{200d}රී",
            "क\u{94d}\u{200d}ष",
            "علی\u{200c}رضا",
            "葛\u{e0100}城",
            "\u{1820}\u{180b}\u{1828}",
        ] {
            assert_eq!(participant_name(name).as_deref(), Some(name), "{}", name.escape_unicode());
            assert_eq!(participant_name(&format!("\u{200d}{name}\u{200d} ")).as_deref(), Some(name));
        }
    }
}
