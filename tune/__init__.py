"""The study: everything that chooses, schedules, stores, shows and exports. Runs in the driver."""
