package native

// apt fetches as another user, and checks that it has become that user. The file
// tells it not to, where there is no other user.
const (
	aptDir    = "/etc/apt/apt.conf.d"
	aptFile   = aptDir + "/99proot-distro-native"
	aptConfig = "APT::Sandbox::User \"root\";\n"
)
