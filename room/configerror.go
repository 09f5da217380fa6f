package room

// ConfigError says what is wrong with a field of a config. The packages of this
// module return it, some of them several that are joined, before they do anything
// with the config.
type ConfigError struct {
	// Field is where the value is, such as "cluster.Config.LeaseTTL".
	Field string
	// Problem completes a sentence that begins with the field or its value, such
	// as "is negative". It does not quote the value, which may be a secret.
	Problem error
	// Temporary says that the same value may do later, such as an address that
	// another process listens at.
	Temporary bool
}

func (e *ConfigError) Error() string { return e.Field + " " + e.Problem.Error() }
func (e *ConfigError) Unwrap() error { return e.Problem }
