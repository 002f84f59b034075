//! The only user of `plotters`: a sheet that lines, areas and texts are drawn on, in pixels of the
//! finished picture, with colours by role.
//!
//! A role is drawn in a colour that stands for it and becomes a CSS class in the finished SVG, so
//! that one picture is legible on a light and on a dark page and on paper. Colours are those of
//! Okabe and Ito, which people with colour-blindness tell apart; dark variants are lighter.

use plotters::backend::SVGBackend;
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{Circle, PathElement, Polygon, Rectangle, Text};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontStyle, IntoFont, RGBColor, ShapeStyle, TextStyle};

/// Plotters counts whole pixels; drawing larger and scaling down by the viewBox gives quarters.
const SCALE: f64 = 4.0;
/// Plotters writes a font size divided by this.
const FONT_FACTOR: f64 = 1.24;

/// What a colour stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// Titles and values.
    Ink,
    /// Axis texts.
    Muted,
    /// Grid lines.
    Grid,
    /// The background.
    Paper,
    /// A shaded stretch of time.
    Band,
    /// First series.
    Blue,
    /// Second series.
    Orange,
    /// Third series.
    Green,
    /// Errors, kills, limits that are broken.
    Vermillion,
    /// Fourth series.
    Purple,
    /// Fifth series.
    Sky,
    /// Plans and references.
    Grey,
    /// Sixth series.
    Yellow,
}

/// Roles with their light and dark colours.
const PALETTE: [(Role, &str, &str); 13] = [
    (Role::Ink, "#1f2328", "#e6edf3"),
    (Role::Muted, "#59636e", "#9da7b1"),
    (Role::Grid, "#e4e8ec", "#2a3038"),
    (Role::Paper, "#ffffff", "#11161c"),
    (Role::Band, "#f3f6f9", "#192029"),
    (Role::Blue, "#0072b2", "#4fa8e0"),
    (Role::Orange, "#e69f00", "#f0b53a"),
    (Role::Green, "#009e73", "#2cc295"),
    (Role::Vermillion, "#d55e00", "#ff8a4c"),
    (Role::Purple, "#b0518a", "#e29ac4"),
    (Role::Sky, "#56b4e9", "#8fd0f5"),
    (Role::Grey, "#8b949e", "#7d8690"),
    (Role::Yellow, "#c9b800", "#f0e442"),
];

/// Where a text is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// At its left end.
    Left,
    /// In its middle.
    Middle,
    /// At its right end.
    Right,
}

/// A picture being drawn; coordinates are pixels from the top left.
pub struct Canvas<'a> {
    area: DrawingArea<SVGBackend<'a>, Shift>,
}

type Point = (f64, f64);

/// Draws a picture and gives it as SVG. `title` is read out by screen readers.
pub fn picture(width: u32, height: u32, title: &str, draw: impl FnOnce(&Canvas<'_>)) -> String {
    let mut svg = String::new();
    {
        let size = (width * SCALE as u32, height * SCALE as u32);
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let canvas = Canvas { area };
        canvas.rect((0.0, 0.0), (f64::from(width), f64::from(height)), Role::Paper, 1.0);
        draw(&canvas);
        // Drawing into a string fails for no reason.
        let _ = canvas.area.present();
    }
    finish(&svg, width, height, title)
}

impl Canvas<'_> {
    /// A line through `points`.
    pub fn line(&self, points: &[Point], role: Role, width: f64) {
        if points.len() > 1 {
            let style = self.stroke(role, 1.0, width);
            let _ = self.area.draw(&PathElement::new(scaled(points), style));
        }
    }

    /// As [`Self::line`], faint.
    pub fn faint_line(&self, points: &[Point], role: Role, width: f64, opacity: f64) {
        if points.len() > 1 {
            let style = self.stroke(role, opacity, width);
            let _ = self.area.draw(&PathElement::new(scaled(points), style));
        }
    }

    /// A straight line of dashes.
    pub fn dashes(&self, from: Point, to: Point, role: Role, width: f64) {
        let length = (to.0 - from.0).hypot(to.1 - from.1);
        let (dash, gap) = (4.0, 3.0);
        let mut at = 0.0;
        while at < length {
            let end = (at + dash).min(length);
            let point =
                |share: f64| (from.0 + (to.0 - from.0) * share, from.1 + (to.1 - from.1) * share);
            self.line(&[point(at / length), point(end / length)], role, width);
            at += dash + gap;
        }
    }

    /// A filled polygon.
    pub fn area(&self, points: &[Point], role: Role, opacity: f64) {
        if points.len() > 2 {
            let style = fill(role, opacity);
            let _ = self.area.draw(&Polygon::new(scaled(points), style));
        }
    }

    /// A filled rectangle between two corners.
    pub fn rect(&self, from: Point, to: Point, role: Role, opacity: f64) {
        let corners = scaled(&[from, to]);
        let style = fill(role, opacity);
        let _ = self.area.draw(&Rectangle::new([corners[0], corners[1]], style));
    }

    /// A filled circle.
    pub fn dot(&self, at: Point, radius: f64, role: Role) {
        let style = fill(role, 1.0);
        let _ = self.area.draw(&Circle::new(scaled(&[at])[0], (radius * SCALE) as i32, style));
    }

    /// A text whose middle line is at `at.1`.
    pub fn text(&self, at: Point, text: &str, size: f64, role: Role, hold: Hold) {
        self.write(at, text, size, role, hold, FontStyle::Normal);
    }

    /// A bold text.
    pub fn bold(&self, at: Point, text: &str, size: f64, role: Role, hold: Hold) {
        self.write(at, text, size, role, hold, FontStyle::Bold);
    }

    fn write(&self, at: Point, text: &str, size: f64, role: Role, hold: Hold, style: FontStyle) {
        let horizontal = match hold {
            Hold::Left => HPos::Left,
            Hold::Middle => HPos::Center,
            Hold::Right => HPos::Right,
        };
        let font = ("sans-serif", size * FONT_FACTOR * SCALE, style).into_font();
        let colour = stand_in(role);
        let style = TextStyle::from(font).color(&colour);
        let style = style.pos(Pos::new(horizontal, VPos::Center));
        let _ = self.area.draw(&Text::new(text.to_owned(), scaled(&[at])[0], style));
    }

    fn stroke(&self, role: Role, opacity: f64, width: f64) -> ShapeStyle {
        ShapeStyle {
            color: stand_in(role).mix(opacity),
            filled: false,
            stroke_width: (width * SCALE).round() as u32,
        }
    }
}

/// About how wide a text is in the sans-serif fonts of common systems; rather too wide.
pub fn text_width(text: &str, size: f64) -> f64 {
    let share = |character: char| match character {
        'i' | 'j' | 'l' | 'I' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' => 0.30,
        ' ' | 'f' | 't' | 'r' | '(' | ')' | '-' | '/' => 0.40,
        'm' | 'w' | 'M' | 'W' | '%' | '→' => 0.92,
        'A'..='Z' => 0.69,
        _ => 0.61,
    };
    text.chars().map(share).sum::<f64>() * size
}

fn fill(role: Role, opacity: f64) -> ShapeStyle {
    ShapeStyle { color: stand_in(role).mix(opacity), filled: true, stroke_width: 0 }
}

fn scaled(points: &[Point]) -> Vec<(i32, i32)> {
    let pixel = |value: f64| (value * SCALE).round() as i32;
    points.iter().map(|point| (pixel(point.0), pixel(point.1))).collect()
}

fn stand_in(role: Role) -> RGBColor {
    RGBColor(1, 0, role as u8)
}

/// Classes in the place of the stand-in colours, the viewBox, and a style of its own.
fn finish(svg: &str, width: u32, height: u32, title: &str) -> String {
    let mut text = svg.to_owned();
    for (role, _, _) in PALETTE {
        let number = role as u8;
        text =
            text.replace(&format!("fill=\"#0100{number:02X}\""), &format!("class=\"f{number}\""));
        text =
            text.replace(&format!("stroke=\"#0100{number:02X}\""), &format!("class=\"s{number}\""));
    }
    for (long, short) in [
        (" opacity=\"1\"", ""),
        (" font-family=\"sans-serif\"", ""),
        (" stroke=\"none\"", ""),
        (">\n", ">"),
        ("\n</text>", "</text>"),
    ] {
        text = text.replace(long, short);
    }
    let body = text.split_once('>').map_or("", |(_, body)| body);
    let scaled = (width * SCALE as u32, height * SCALE as u32);
    let title = title.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{title}\" \
         font-family=\"system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif\" \
         stroke-linejoin=\"round\"><title>{title}</title><style>{}</style>{body}",
        scaled.0,
        scaled.1,
        style("", ""),
    )
}

/// The CSS of the roles. `scope` begins every selector; `forced` is the selector of a page that
/// asks for the light colours whatever the reader's preference.
pub fn style(scope: &str, forced: &str) -> String {
    let rules = |scope: &str, dark: bool| -> String {
        let rule = |(role, light, night): &(Role, &str, &str)| {
            let (number, colour) = (*role as u8, if dark { night } else { light });
            format!("{scope}.f{number}{{fill:{colour}}}{scope}.s{number}{{stroke:{colour}}}")
        };
        PALETTE.iter().map(rule).collect()
    };
    let mut css = format!("{scope}rect{{shape-rendering:crispEdges}}");
    css.push_str(&rules(scope, false));
    css.push_str(&format!("@media(prefers-color-scheme:dark){{{}}}", rules(scope, true)));
    if !forced.is_empty() {
        css.push_str(&format!("@media print{{{}}}", rules(forced, false)));
    }
    css
}

/// A picture without its own style, for a page that has [`style`] once for all.
pub fn bare(svg: &str) -> String {
    match (svg.find("<style>"), svg.find("</style>")) {
        (Some(start), Some(end)) => format!("{}{}", &svg[..start], &svg[end + "</style>".len()..]),
        _ => svg.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_stand_in_colour_is_left_and_a_title_is_escaped() {
        let svg = picture(100, 50, "a < \"b\"", |canvas| {
            canvas.line(&[(0.0, 0.0), (10.0, 10.0)], Role::Vermillion, 1.5);
            canvas.text((5.0, 5.0), "x & y", 12.0, Role::Ink, Hold::Left);
            canvas.area(&[(0.0, 0.0), (5.0, 5.0), (5.0, 0.0)], Role::Blue, 0.2);
            canvas.dashes((0.0, 0.0), (20.0, 0.0), Role::Grey, 1.0);
        });
        assert!(!svg.contains("#0100"), "{svg}");
        assert!(svg.contains("aria-label=\"a &lt; &quot;b&quot;\""));
        assert!(svg.contains("x &amp; y</text>"));
        assert!(svg.ends_with("</svg>"));
        assert!(!bare(&svg).contains("<style>"));
    }

    #[test]
    fn roles_stand_at_their_numbers_place() {
        for (index, (role, _, _)) in PALETTE.iter().enumerate() {
            assert_eq!(index, *role as usize);
        }
    }
}
