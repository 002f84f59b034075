//! The report as a document: sections of blocks, the same for Markdown and HTML, so that the two
//! cannot say different things. It holds no figure of its own and knows no markup.

/// The whole report.
#[derive(Clone, Debug)]
pub struct Document {
    /// What it comes to, in a word.
    pub stamp: Stamp,
    /// What was tested, in a line.
    pub title: String,
    /// When, how long.
    pub subtitle: String,
    /// Sentences on top: interruption, broken run, what was not judged.
    pub notices: Vec<Notice>,
    /// The figures that the reader came for.
    pub headline: Vec<Headline>,
    /// In order.
    pub sections: Vec<Section>,
    /// The last line.
    pub footer: String,
}

/// The verdict in a word, and whether to believe it.
#[derive(Clone, Debug)]
pub struct Stamp {
    /// `PASS`, `FAIL`.
    pub word: String,
    /// How it looks.
    pub mood: Mood,
    /// What stands beside it, such as `the run is valid`.
    pub note: String,
}

/// A sentence that must not be missed.
#[derive(Clone, Debug)]
pub struct Notice {
    /// How it looks.
    pub mood: Mood,
    /// What is the matter, in a word or two.
    pub head: String,
    /// The sentence.
    pub text: String,
}

/// One large figure.
#[derive(Clone, Debug)]
pub struct Headline {
    /// What it is.
    pub name: String,
    /// With its unit.
    pub value: String,
    /// The limit, or what it is of.
    pub note: String,
    /// How it looks.
    pub mood: Mood,
}

/// How a cell, figure or notice looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    /// Nothing special.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// Not as it should be.
    Bad,
    /// Doubtful.
    Doubt,
}

impl Mood {
    /// The CSS class.
    pub fn class(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Doubt => "doubt",
        }
    }
}

/// A section with its heading.
#[derive(Clone, Debug)]
pub struct Section {
    /// For links.
    pub id: &'static str,
    /// Heading.
    pub title: String,
    /// Unfolded at first.
    pub open: bool,
    /// What it contains.
    pub blocks: Vec<Block>,
}

/// A piece of a section.
#[derive(Clone, Debug)]
pub enum Block {
    /// A paragraph.
    Text(String),
    /// A heading inside of the section.
    Heading(String),
    /// A table.
    Table(Table),
    /// A chart with its caption.
    Chart {
        /// File name below `charts/` without `.svg`.
        name: String,
        /// The caption.
        caption: String,
        /// The picture, without its own style.
        svg: String,
    },
    /// Preformatted text.
    Code(String),
    /// A list.
    List(Vec<String>),
}

/// A table; the first column is text, others are figures unless `left` says so.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Column headings.
    pub heads: Vec<Head>,
    /// Rows of cells.
    pub rows: Vec<Vec<Cell>>,
    /// Can be sorted by its columns.
    pub sortable: bool,
}

/// A column heading.
#[derive(Clone, Debug)]
pub struct Head {
    /// The words.
    pub text: String,
    /// Cells are text.
    pub left: bool,
}

/// A cell.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    /// What it says.
    pub text: String,
    /// What it is sorted by; the text if none.
    pub key: Option<f64>,
    /// How it looks.
    pub mood: Mood,
}

impl Table {
    /// A table with columns; one that begins with `<` is text.
    pub fn new(heads: &[&str]) -> Self {
        let head = |text: &&str| match text.strip_prefix('<') {
            Some(text) => Head { text: text.to_owned(), left: true },
            None => Head { text: (*text).to_owned(), left: false },
        };
        Self { heads: heads.iter().map(head).collect(), rows: Vec::new(), sortable: false }
    }

    /// Adds a row, which must have a cell for each column.
    pub fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.heads.len());
        self.rows.push(cells);
    }
}

impl Cell {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// A figure with the number that it is sorted by.
    pub fn figure(text: impl Into<String>, key: f64) -> Self {
        Self { text: text.into(), key: Some(key), ..Self::default() }
    }

    /// A figure that may be missing.
    pub fn maybe<T: Copy + Into<f64>>(value: Option<T>, show: impl Fn(f64) -> String) -> Self {
        match value {
            Some(value) => Self::figure(show(value.into()), value.into()),
            None => {
                Self { text: "—".to_owned(), key: Some(f64::NEG_INFINITY), mood: Mood::Plain }
            }
        }
    }

    /// The same with a look.
    pub fn mood(mut self, mood: Mood) -> Self {
        self.mood = mood;
        self
    }

    /// What it is sorted by, for a script.
    pub fn sort_key(&self) -> String {
        match self.key {
            Some(key) if key == f64::NEG_INFINITY => "-1e308".to_owned(),
            Some(key) => key.to_string(),
            None => String::new(),
        }
    }
}
