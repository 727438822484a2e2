"Widgets in a real browser; a package, so that its browser is closed before the tests after it run."
