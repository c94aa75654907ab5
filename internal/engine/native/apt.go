package native

// aptConfig is the content of [engine.AptConfig]. apt would check that it has become the other user.
const aptConfig = "APT::Sandbox::User \"root\";\n"
