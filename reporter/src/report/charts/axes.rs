//! One panel of a chart: its place, its scales, its grid and the words around it.

use super::canvas::{Canvas, Hold, Role, text_width};

/// Font size of axis texts.
pub const SMALL: f64 = 11.0;
/// Font size of panel titles.
pub const TITLE: f64 = 13.0;

/// A panel; x is linear, y linear from 0 or logarithmic.
#[derive(Clone, Debug)]
pub struct Axes {
    /// Left, top, right, bottom in pixels.
    pub place: (f64, f64, f64, f64),
    /// Range of x.
    pub x: (f64, f64),
    /// Range of y.
    pub y: (f64, f64),
    /// y is logarithmic.
    pub log: bool,
}

impl Axes {
    /// Pixel of an x.
    pub fn px(&self, x: f64) -> f64 {
        let (left, _, right, _) = self.place;
        let span = self.x.1 - self.x.0;
        left + (right - left) * if span > 0.0 { (x - self.x.0) / span } else { 0.5 }
    }

    /// Pixel of a y, kept inside of the panel.
    pub fn py(&self, y: f64) -> f64 {
        let (_, top, _, bottom) = self.place;
        let share = if self.log {
            let (low, high) = (self.y.0.ln(), self.y.1.ln());
            (y.max(self.y.0).ln() - low) / (high - low)
        } else {
            (y - self.y.0) / (self.y.1 - self.y.0)
        };
        bottom - (bottom - top) * share.clamp(0.0, 1.0)
    }

    /// Pixel of a point.
    pub fn at(&self, x: f64, y: f64) -> (f64, f64) {
        (self.px(x), self.py(y))
    }

    /// Grid lines and the words of the y axis.
    pub fn grid(&self, canvas: &Canvas<'_>, label: impl Fn(f64) -> String) {
        let (left, _, right, _) = self.place;
        for tick in self.y_ticks() {
            let y = self.py(tick);
            canvas.line(&[(left, y), (right, y)], Role::Grid, 1.0);
            canvas.text((left - 8.0, y), &label(tick), SMALL, Role::Muted, Hold::Right);
        }
    }

    /// Grid lines at steps of a power of two, and sizes in words.
    pub fn grid_of_bytes(&self, canvas: &Canvas<'_>, label: impl Fn(f64) -> String) {
        let (left, top, right, bottom) = self.place;
        for tick in byte_ticks(self.y.1, ((bottom - top) / 34.0).max(2.0)) {
            let y = self.py(tick);
            canvas.line(&[(left, y), (right, y)], Role::Grid, 1.0);
            canvas.text((left - 8.0, y), &label(tick), SMALL, Role::Muted, Hold::Right);
        }
    }

    /// Ticks of the y axis.
    pub fn y_ticks(&self) -> Vec<f64> {
        let height = self.place.3 - self.place.1;
        if self.log {
            return log_ticks(self.y.0, self.y.1, (height / 22.0) as usize);
        }
        linear_ticks(self.y.0, self.y.1, (height / 34.0).max(2.0) as usize)
    }

    /// The time axis below the panel; x is seconds.
    pub fn time(&self, canvas: &Canvas<'_>, unit_note: &str) {
        let (left, _, right, bottom) = self.place;
        canvas.line(&[(left, bottom), (right, bottom)], Role::Muted, 1.0);
        let step = time_step(self.x.1 - self.x.0, (right - left) / 70.0);
        let mut tick = (self.x.0 / step).ceil() * step;
        while tick <= self.x.1 + step * 1e-6 {
            let x = self.px(tick);
            canvas.line(&[(x, bottom), (x, bottom + 4.0)], Role::Muted, 1.0);
            let label = clock(tick, step);
            canvas.text((x, bottom + 14.0), &label, SMALL, Role::Muted, Hold::Middle);
            tick += step;
        }
        canvas.text((right, bottom + 29.0), unit_note, SMALL, Role::Muted, Hold::Right);
    }

    /// The title above the panel.
    pub fn title(&self, canvas: &Canvas<'_>, title: &str, unit: &str) {
        let (left, top, _, _) = self.place;
        canvas.bold((left, top - 13.0), title, TITLE, Role::Ink, Hold::Left);
        // A bold text is a tenth wider.
        let x = left + text_width(title, TITLE) * 1.1 + 8.0;
        canvas.text((x, top - 13.0), unit, SMALL, Role::Muted, Hold::Left);
    }

    /// Names of the series above the panel on the right, in the order of drawing.
    pub fn legend(&self, canvas: &Canvas<'_>, items: &[(&str, Role)]) {
        let (_, top, right, _) = self.place;
        let mut x = right;
        for (name, role) in items.iter().rev() {
            canvas.text((x, top - 13.0), name, SMALL, Role::Ink, Hold::Right);
            x -= text_width(name, SMALL) + 4.0;
            canvas.rect((x - 12.0, top - 15.0), (x, top - 11.0), *role, 1.0);
            x -= 12.0 + 16.0;
        }
    }

    /// A line through the points that have a value, broken where they have none.
    pub fn broken_line(
        &self,
        canvas: &Canvas<'_>,
        points: impl Iterator<Item = (f64, Option<f64>)>,
        role: Role,
        width: f64,
    ) {
        let mut run = Vec::new();
        for (x, y) in points {
            match y {
                Some(y) => run.push(self.at(x, y)),
                None => {
                    canvas.line(&run, role, width);
                    run.clear();
                }
            }
        }
        canvas.line(&run, role, width);
    }
}

/// A round number at or above `value`, and never 0.
pub fn nice_max(value: f64) -> f64 {
    if value <= 0.0 || !value.is_finite() {
        return 1.0;
    }
    let decade = 10f64.powf(value.log10().floor());
    let steps = [1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    let step = steps.iter().find(|step| value <= decade * **step * 1.000_001).unwrap_or(&10.0);
    decade * step
}

/// Round ticks between `low` and `high`, about `wanted` of them.
pub fn linear_ticks(low: f64, high: f64, wanted: usize) -> Vec<f64> {
    let raw = (high - low) / wanted.max(1) as f64;
    if raw <= 0.0 || !raw.is_finite() {
        return vec![low];
    }
    let decade = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .iter()
        .map(|step| step * decade)
        .find(|step| *step >= raw * 0.999)
        .unwrap_or(decade * 10.0);
    let first = (low / step).ceil() as i64;
    let last = ((high + step * 1e-6) / step).floor() as i64;
    (first..=last).map(|tick| tick as f64 * step).collect()
}

/// Ticks from 0 to `high` bytes, a power of two apart, `wanted` of them at the most; so that each is
/// a round number of KiB, MiB or GiB, and all steps are of one size.
pub fn byte_ticks(high: f64, wanted: f64) -> Vec<f64> {
    let mut step = 1.0f64;
    while high / step > wanted {
        step *= 2.0;
    }
    let last = (high / step * (1.0 + 1e-9)).floor() as u64;
    (0..=last).map(|tick| tick as f64 * step).collect()
}

/// Ticks of a logarithmic axis: 1, 2, 5 where there is room, else powers of ten.
pub fn log_ticks(low: f64, high: f64, wanted: usize) -> Vec<f64> {
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let ticks = |steps: &[f64]| -> Vec<f64> {
        (first..=last)
            .flat_map(|decade| steps.iter().map(move |step| step * 10f64.powi(decade)))
            .filter(|tick| *tick >= low * 0.999 && *tick <= high * 1.001)
            .collect()
    };
    let sets: [&[f64]; 2] = [&[1.0, 2.0, 5.0], &[1.0, 3.0]];
    let fitting = sets.into_iter().map(ticks).find(|fine| fine.len() <= wanted.max(3));
    fitting.unwrap_or_else(|| ticks(&[1.0]))
}

/// A step of time that gives at most `wanted` ticks over `span_s` seconds.
fn time_step(span_s: f64, wanted: f64) -> f64 {
    let steps = [
        0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1_800.0,
        3_600.0, 7_200.0, 14_400.0, 43_200.0,
    ];
    steps.into_iter().find(|step| span_s / step <= wanted).unwrap_or(86_400.0)
}

/// `m:ss`, `h:mm:ss`, or seconds with a decimal where the step is below one.
fn clock(seconds: f64, step: f64) -> String {
    let sign = if seconds < -step * 0.01 { "-" } else { "" };
    let seconds = seconds.abs();
    if step < 1.0 {
        return format!("{sign}{seconds:.1}");
    }
    let whole = seconds.round() as u64;
    match whole / 3_600 {
        0 => format!("{sign}{}:{:02}", whole / 60, whole % 60),
        hours => format!("{sign}{hours}:{:02}:{:02}", whole / 60 % 60, whole % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(linear_ticks(0.0, 3_600.0, 4), [0.0, 1_000.0, 2_000.0, 3_000.0]);
        assert_eq!(linear_ticks(0.0, 1.0, 2), [0.0, 0.5, 1.0]);
        assert_eq!(log_ticks(1e6, 1e8, 9), [1e6, 2e6, 5e6, 1e7, 2e7, 5e7, 1e8]);
        assert_eq!(log_ticks(1e3, 1e9, 9).len(), 7);
        assert_eq!(nice_max(3_612.0), 4_000.0);
        assert_eq!(nice_max(0.0), 1.0);
        let kib = |ticks: Vec<f64>| ticks.iter().map(|tick| tick / 1024.0).collect::<Vec<_>>();
        assert_eq!(kib(byte_ticks(60_000.0, 4.0)), [0.0, 16.0, 32.0, 48.0]);
        assert_eq!(kib(byte_ticks(65_536.0, 4.0)), [0.0, 16.0, 32.0, 48.0, 64.0]);
    }

    #[test]
    fn the_clock_reads_minutes_hours_and_fractions() {
        assert_eq!(clock(65.0, 5.0), "1:05");
        assert_eq!(clock(3_725.0, 300.0), "1:02:05");
        assert_eq!(clock(-5.0, 1.0), "-0:05");
        assert_eq!(clock(0.5, 0.1), "0.5");
    }

    #[test]
    fn a_value_outside_stays_in_the_panel() {
        let axes =
            Axes { place: (0.0, 0.0, 100.0, 50.0), x: (0.0, 10.0), y: (1.0, 100.0), log: true };
        assert_eq!(axes.at(5.0, 10.0), (50.0, 25.0));
        assert_eq!((axes.py(0.0), axes.py(1e9)), (50.0, 0.0));
    }
}
