//! The attributes (`a=`) of a session or an m-line in SDP, each without its prefix.

use str0m::media::Direction;

/// Returns the stated direction.
pub(super) fn direction(attributes: &[&str]) -> Option<Direction> {
    attributes.iter().find_map(|attribute| match *attribute {
        "sendrecv" => Some(Direction::SendRecv),
        "sendonly" => Some(Direction::SendOnly),
        "recvonly" => Some(Direction::RecvOnly),
        "inactive" => Some(Direction::Inactive),
        _ => None,
    })
}

/// Splits a value that starts with a payload type.
pub(super) fn of_payload_type(value: &str) -> Option<(u8, &str)> {
    let (payload_type, rest) = value.split_once(char::is_whitespace)?;
    Some((payload_type.parse().ok()?, rest.trim()))
}

/// Returns true if there is an attribute without a value of this name.
pub(super) fn flag(attributes: &[&str], name: &str) -> bool {
    attributes.contains(&name)
}

/// Returns the first value of an attribute.
pub(super) fn value<'a>(attributes: &[&'a str], name: &str) -> Option<&'a str> {
    values(attributes, name).next()
}

/// Returns the non-empty values of an attribute.
pub(super) fn values<'a, 'b>(
    attributes: &'b [&'a str],
    name: &'b str,
) -> impl Iterator<Item = &'a str> + Clone + use<'a, 'b> {
    let of_name = attributes.iter().filter_map(move |attribute| attribute.strip_prefix(name)?.strip_prefix(':'));
    of_name.map(str::trim).filter(|value| !value.is_empty())
}
