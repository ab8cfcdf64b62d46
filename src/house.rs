//! Opens the rooms in order, joins them by channels, closes them in reverse.
