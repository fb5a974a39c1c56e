"""One trial: data, preprocessing, model, training. Runs inside a trial's process and never imports `tune`."""
