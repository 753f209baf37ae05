//! Who holds what, what is missing here, and whom to ask.
