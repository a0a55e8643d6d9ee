"""How far it scales: a fleet beside a serial run, a worker that is lost, and what more workers would gain."""
