"""Power laws fitted to censored times, with intervals over seeds."""
