//! An SVG chart of the cost per packet by number of subscribers.

use std::fmt::Write;

use super::report::Row;

/// Size of the chart, and edges of the plot in it.
const SIZE: (f64, f64) = (720.0, 400.0);
const LEFT: f64 = 64.0;
const RIGHT: f64 = 704.0;
const TOP: f64 = 84.0;
const BOTTOM: f64 = 340.0;

/// One curve of the chart.
struct Line {
    name: &'static str,
    colour: &'static str,
    dashes: &'static str,
    points: Vec<(f64, f64)>,
}

/// Draws the chart, or returns `None` if no row has one publisher and a cost.
pub fn draw(rows: &[Row]) -> Option<String> {
    let is_fan_out = |row: &&Row| row.shape.rooms == 1 && row.shape.publishers == 1 && !row.shape.paced;
    let rows: Vec<_> = rows.iter().filter(is_fan_out).collect();
    let line = |name, colour, dashes, cost: &dyn Fn(&Row) -> Option<f64>| {
        let points = rows.iter().filter_map(|row| Some(((row.shape.size - 1) as f64, cost(row)?)));
        Line { name, colour, dashes, points: points.collect() }
    };
    let lines = [
        line("AQ Server, everything", "#0b6e4f", "", &|row| row.us_per_packet()),
        line("bare sendmsg of each packet", "#b3541e", "7 4", &|row| Some(row.floors?.bare)),
        line("sealed, sent in runs of 4", "#5b5f97", "2 4", &|row| Some(row.floors?.runs_of_4)),
    ];
    let all = || lines.iter().flat_map(|line| &line.points);
    let least = all().map(|(x, _)| *x).reduce(f64::min)?;
    let most = all().map(|(x, _)| *x).reduce(f64::max)?.max(least * 10.0);
    let top = all().map(|(_, y)| *y).reduce(f64::max)?.ceil().max(1.0);
    let x = |value: f64| LEFT + 16.0 + (value / least).ln() / (most / least).ln() * (RIGHT - LEFT - 48.0);
    let y = |value: f64| BOTTOM - value / top * (BOTTOM - TOP);
    let mut svg = String::new();
    let (width, height) = SIZE;
    let _ = write!(
        svg,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" font-size="13" fill="#222">
<title>Processor time for each forwarded packet against subscribers</title>
<rect width="{width}" height="{height}" fill="#fff"/>
<text x="16" y="24" font-size="15" font-weight="600">Processor time for each forwarded packet, 1 Mbit/s from one publisher</text>
"##
    );
    let step = if top > 6.0 { 2.0 } else { 1.0 };
    for tick in (0..).map(|tick| f64::from(tick) * step).take_while(|tick| *tick <= top) {
        let at = y(tick);
        let _ = writeln!(
            svg,
            r##"<path d="M{LEFT} {at:.1}H{RIGHT}" stroke="#ddd"/><text x="{:.0}" y="{:.1}" text-anchor="end">{tick}</text>"##,
            LEFT - 8.0,
            at + 4.5
        );
    }
    for row in &rows {
        let subscribers = row.shape.size - 1;
        let at = x(subscribers as f64);
        let _ = writeln!(
            svg,
            r##"<path d="M{at:.1} {BOTTOM}v5" stroke="#888"/><text x="{at:.1}" y="{:.0}" text-anchor="middle">{subscribers}</text>"##,
            BOTTOM + 20.0
        );
    }
    let _ = writeln!(
        svg,
        r##"<text x="{:.0}" y="{:.0}" text-anchor="middle">subscribers (logarithmic)</text>
<text transform="translate(20 {:.0}) rotate(-90)" text-anchor="middle">microseconds</text>"##,
        f64::midpoint(LEFT, RIGHT),
        BOTTOM + 44.0,
        f64::midpoint(TOP, BOTTOM)
    );
    for (index, line) in lines.iter().enumerate() {
        let (colour, dashes, name) = (line.colour, line.dashes, line.name);
        let points: Vec<String> = line.points.iter().map(|(a, b)| format!("{:.1},{:.1}", x(*a), y(*b))).collect();
        let (legend, stroke) =
            (LEFT + [0.0, 184.0, 412.0][index], format!(r#"stroke="{colour}" stroke-dasharray="{dashes}""#));
        let _ = writeln!(
            svg,
            r#"<polyline points="{}" fill="none" {stroke} stroke-width="2.5"/><path d="M{legend} 48h24" {stroke} stroke-width="2.5"/><text x="{:.0}" y="52">{name}</text>"#,
            points.join(" "),
            legend + 30.0
        );
        for (a, b) in &line.points {
            let _ = write!(svg, r#"<circle cx="{:.1}" cy="{:.1}" r="3.5" fill="{colour}"/>"#, x(*a), y(*b));
        }
    }
    svg.push_str("\n</svg>\n");
    Some(svg)
}
