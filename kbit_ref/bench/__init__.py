"""Speed beside other libraries: `tasks` (what is timed), `peers` (whose functions), `bench` (timing), models, study."""
