"""What several test files share: libraries to compare with, the definition over many inputs, made-up studies."""
