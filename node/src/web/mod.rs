//! The page: router, login, assets and the one `WebSocket`.
