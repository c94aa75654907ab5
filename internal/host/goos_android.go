package host

const goosAndroid = true
